//! What attributes and their values are made of.

use std::str::FromStr;

use super::text::Attribute;

/// The values of the attributes of that name.
pub(super) fn values<'a>(
    attributes: &'a [Attribute],
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
        .map(str::trim)
}

/// The words of a value. Only spaces part them (RFC 8866 section 9).
pub(super) fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(' ').filter(|word| !word.is_empty())
}

/// A number as SDP writes it: no sign, no leading zeros (RFC 8866 section 9, `integer`).
pub(super) fn integer<T: FromStr>(text: &str) -> Option<T> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok())?
}
