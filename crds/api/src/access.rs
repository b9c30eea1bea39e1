//! SSH keys and passwords that are handed to the guest.

spec! {
    /// One credential: a key or a password.
    pub struct AccessCredential {
        optional {
            /// SSH public keys.
            ssh_public_key: Option<SshPublicKeyAccessCredential>,
            /// Passwords.
            user_password: Option<UserPasswordAccessCredential>,
        }
    }

    /// SSH public keys.
    pub struct SshPublicKeyAccessCredential {
        required {
            /// How they reach the guest.
            propagation_method: SshPublicKeyAccessCredentialPropagationMethod,
            /// Where they are.
            source: SshPublicKeyAccessCredentialSource,
        }
    }

    /// How keys reach the guest: exactly one.
    pub struct SshPublicKeyAccessCredentialPropagationMethod {
        optional {
            /// In the metadata of the config drive.
            config_drive: Option<ConfigDriveSshPublicKeyAccessCredentialPropagation>,
            /// In the metadata of the NoCloud seed.
            no_cloud: Option<NoCloudSshPublicKeyAccessCredentialPropagation>,
            /// Written by the guest agent.
            qemu_guest_agent: Option<QemuGuestAgentSshPublicKeyAccessCredentialPropagation>,
        }
    }

    /// In the metadata of the config drive.
    pub struct ConfigDriveSshPublicKeyAccessCredentialPropagation {}

    /// In the metadata of the NoCloud seed.
    pub struct NoCloudSshPublicKeyAccessCredentialPropagation {}

    /// Written by the guest agent.
    pub struct QemuGuestAgentSshPublicKeyAccessCredentialPropagation {
        required {
            /// Users of the guest whose `authorized_keys` is written.
            users: Vec<String>,
        }
    }

    /// Where keys are.
    pub struct SshPublicKeyAccessCredentialSource {
        optional {
            /// A Secret; each value is one or more keys.
            secret: Option<AccessCredentialSecretSource>,
        }
    }

    /// A Secret.
    pub struct AccessCredentialSecretSource {
        required {
            /// Name.
            secret_name: String,
        }
    }

    /// Passwords.
    pub struct UserPasswordAccessCredential {
        required {
            /// How they reach the guest.
            propagation_method: UserPasswordAccessCredentialPropagationMethod,
            /// Where they are.
            source: UserPasswordAccessCredentialSource,
        }
    }

    /// How passwords reach the guest.
    pub struct UserPasswordAccessCredentialPropagationMethod {
        optional {
            /// Set by the guest agent.
            qemu_guest_agent: Option<QemuGuestAgentUserPasswordAccessCredentialPropagation>,
        }
    }

    /// Set by the guest agent.
    pub struct QemuGuestAgentUserPasswordAccessCredentialPropagation {}

    /// Where passwords are.
    pub struct UserPasswordAccessCredentialSource {
        optional {
            /// A Secret; each key is a user.
            secret: Option<AccessCredentialSecretSource>,
        }
    }
}
