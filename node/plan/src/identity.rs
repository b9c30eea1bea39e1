//! What a machine is called by its guest when the manifest does not say: pure functions of the VM's uid.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::given::Identity;

/// Root of every name-based UUID of this project. Never changes: guests would see other hardware.
const ROOT: Uuid = Uuid::from_u128(0x8c5b_1f0e_2f39_4d0a_9d57_3c0f_41a7_be21);

impl Identity {
    /// Identity where no API server gives uids (`play`): a function of namespace and name.
    #[must_use]
    pub fn of_name(namespace: &str, name: &str) -> Self {
        Self::of_uid(Uuid::new_v5(
            &ROOT,
            format!("vm/{namespace}/{name}").as_bytes(),
        ))
    }

    /// Identity of a VM with that uid.
    #[must_use]
    pub fn of_uid(uid: Uuid) -> Self {
        Self {
            uid,
            firmware_uuid: Uuid::new_v5(&uid, b"firmware-uuid"),
            firmware_serial: Uuid::new_v5(&uid, b"firmware-serial").to_string(),
        }
    }

    /// MAC address of an interface: locally administered, unicast.
    #[must_use]
    pub fn mac(&self, interface: &str) -> [u8; 6] {
        let digest = self.digest("mac", interface);
        [0x02, digest[0], digest[1], digest[2], digest[3], digest[4]]
    }

    /// Serial number of a disk: 20 hexadecimal digits, the most that virtio-blk shows.
    #[must_use]
    pub fn disk_serial(&self, disk: &str) -> String {
        hex::encode(&self.digest("disk", disk)[..10])
    }

    fn digest(&self, kind: &str, name: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.uid.as_bytes());
        hash.update(kind.as_bytes());
        hash.update([0]);
        hash.update(name.as_bytes());
        hash.finalize().into()
    }
}

/// A MAC address with colons.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_never_changes_for_the_same_name() {
        let id = Identity::of_name("default", "web");
        assert_eq!(id, Identity::of_name("default", "web"));
        assert_ne!(id.uid, Identity::of_name("default", "db").uid);
        // Written down: a change here would give every existing guest new hardware.
        assert_eq!(id.uid.to_string(), "e498fe27-8098-5ee7-bbcf-1bca5082c5c3");
        assert_eq!(mac_text(id.mac("default")), "02:db:ac:28:07:46");
        assert_eq!(id.disk_serial("rootdisk"), "3276114023c1ca14bc04");
    }

    #[test]
    fn mac_addresses_are_local_and_unicast() {
        let id = Identity::of_name("default", "web");
        assert_eq!(id.mac("a")[0] & 0b11, 0b10);
        assert_ne!(id.mac("a"), id.mac("b"));
    }
}
