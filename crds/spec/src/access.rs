//! SSH keys and passwords that are handed to the guest.

/// One access credential: a Secret and the way its content reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessCredential {
    /// Name of the Secret.
    pub secret: String,
    /// What the Secret holds.
    pub kind: SecretKind,
    /// How it reaches the guest.
    pub propagation: Propagation,
}

/// What the Secret holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Each key's value is an SSH public key.
    SshPublicKey,
    /// Each key is a user, its value the password.
    UserPassword,
}

/// How a credential reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Propagation {
    /// In the meta-data of the NoCloud seed.
    NoCloud,
    /// In the meta-data of the config drive.
    ConfigDrive,
    /// By the guest agent, into the `authorized_keys` of these users (keys) or as passwords.
    GuestAgent {
        /// Users (SSH keys only).
        users: Vec<String>,
    },
}
