//! Sizes and rates as clients say them: any whole number is taken, and counts as no more than makes
//! a difference.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The most that counts: no codec has pictures of more pixels in a row or column (VP9 has 16 bits
/// for them), and no screen more frames a second.
const MAX: u32 = 65_535;

/// A whole number of at least 0, and at most 65535 whatever was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Amount(pub u32);

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of at least 0")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Amount, E> {
        Ok(Amount(u32::try_from(value).unwrap_or(MAX).min(MAX)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Amount, E> {
        let value = u64::try_from(value);
        value
            .map_err(|_| E::invalid_value(Unexpected::Other("a negative number"), &self))
            .and_then(|value| self.visit_u64(value))
    }

    /// Whole numbers too large for an integer come as this.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Amount, E> {
        if value >= 0.0 && value.fract() == 0.0 {
            // Saturates.
            return self.visit_u64(value as u64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(AmountVisitor)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "integer".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_taken_and_others_are_not() {
        let read = |text: &str| serde_json::from_str::<Amount>(text).map(|amount| amount.0);
        for (text, amount) in [
            ("0", 0),
            ("640", 640),
            ("640.0", 640),
            ("65536", MAX),
            ("1152921504606846976", MAX),
            ("18446744073709551616", MAX),
            ("1e300", MAX),
        ] {
            assert_eq!(read(text).ok(), Some(amount), "{text}");
        }
        for text in [
            "-1",
            "-9223372036854775808",
            "0.5",
            "-0.5",
            "\"3\"",
            "null",
            "[]",
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("a whole number of at least 0"), "{error}");
        }
    }
}
