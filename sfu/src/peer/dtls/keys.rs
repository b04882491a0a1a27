//! The SRTP keys that a handshake yields (RFC 5764 section 4.2).

use std::fmt;

use super::error::DtlsError;
use super::suite::{Master, Role};
use crate::srtp::{MasterKey, SrtpProfile};

/// The SRTP keys of both directions.
pub struct SrtpKeys {
    /// Which transform they are for.
    pub profile: SrtpProfile,
    local: OwnedKey,
    remote: OwnedKey,
}

struct OwnedKey {
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl From<MasterKey<'_>> for OwnedKey {
    fn from(key: MasterKey<'_>) -> Self {
        OwnedKey {
            key: key.key.to_vec(),
            salt: key.salt.to_vec(),
        }
    }
}

impl SrtpKeys {
    pub(super) fn new(
        profile: SrtpProfile,
        master: &Master,
        role: Role,
    ) -> Result<Self, DtlsError> {
        let material = master.export_srtp(profile.keying_material_len())?;
        let keys = profile
            .split(material.as_ref())
            .map_err(|_| DtlsError::Crypto)?;
        let (local, remote) = match role {
            Role::Client => (keys.client, keys.server),
            Role::Server => (keys.server, keys.client),
        };
        Ok(SrtpKeys {
            profile,
            local: local.into(),
            remote: remote.into(),
        })
    }

    /// Seals what we send.
    #[must_use]
    pub fn local(&self) -> MasterKey<'_> {
        MasterKey {
            key: &self.local.key,
            salt: &self.local.salt,
        }
    }

    /// Opens what the peer sends.
    #[must_use]
    pub fn remote(&self) -> MasterKey<'_> {
        MasterKey {
            key: &self.remote.key,
            salt: &self.remote.salt,
        }
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}
