//! Access credentials.

use catamaran_api::{AccessCredentialSecretSource, VirtualMachineInstanceSpec};

use crate::access::{AccessCredential, Propagation, SecretKind};
use crate::field::{Fault, Faults, FieldPath};
use crate::names;

/// All credentials that can be told. Those which travel in a seed need a seed of that kind.
pub(super) fn credentials(
    spec: &VirtualMachineInstanceSpec,
    root: &FieldPath,
    faults: &mut Faults,
) -> Vec<AccessCredential> {
    let mut found = Vec::new();
    for (i, credential) in spec.access_credentials.iter().enumerate() {
        let path = root.child("accessCredentials").index(i);
        match (&credential.ssh_public_key, &credential.user_password) {
            (Some(key), None) => {
                let at = path.child("sshPublicKey");
                let secret = secret(
                    key.source.secret.as_ref(),
                    &at.child("source").child("secret"),
                    faults,
                );
                let propagation =
                    key_propagation(key, spec, &at.child("propagationMethod"), faults);
                found.extend(secret.zip(propagation).map(|(secret, propagation)| {
                    AccessCredential {
                        secret,
                        kind: SecretKind::SshPublicKey,
                        propagation,
                    }
                }));
            }
            (None, Some(password)) => {
                let at = path.child("userPassword");
                let secret = secret(
                    password.source.secret.as_ref(),
                    &at.child("source").child("secret"),
                    faults,
                );
                if password.propagation_method.qemu_guest_agent.is_none() {
                    faults.required(
                        &at.child("propagationMethod"),
                        "must have exactly one propagationMethod type set",
                    );
                    continue;
                }
                let propagation = Propagation::GuestAgent { users: Vec::new() };
                found.extend(secret.map(|secret| AccessCredential {
                    secret,
                    kind: SecretKind::UserPassword,
                    propagation,
                }));
            }
            (None, None) => {
                faults.required(&path, "must have exactly one access credential type set");
            }
            (Some(_), Some(_)) => faults.push(
                &path.child("userPassword"),
                Fault::Forbidden("must have exactly one access credential type set".to_owned()),
            ),
        }
    }
    found
}

fn secret(
    source: Option<&AccessCredentialSecretSource>,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<String> {
    let name = source
        .map(|s| s.secret_name.as_str())
        .filter(|n| !n.is_empty());
    match name {
        None => {
            faults.required(&path.child("secretName"), "");
            None
        }
        Some(name) => {
            if !names::is_subdomain(name) {
                faults.invalid(&path.child("secretName"), name, names::SUBDOMAIN);
            }
            Some(name.to_owned())
        }
    }
}

fn key_propagation(
    key: &catamaran_api::SshPublicKeyAccessCredential,
    spec: &VirtualMachineInstanceSpec,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<Propagation> {
    let method = &key.propagation_method;
    let seed = |wanted: fn(&catamaran_api::Volume) -> bool| spec.volumes.iter().any(wanted);
    let mut chosen = Vec::new();
    if method.no_cloud.is_some() {
        if !seed(|v| v.cloud_init_no_cloud.is_some()) {
            faults.required(
                &root_volumes(path),
                "a cloudInitNoCloud volume must exist when the noCloud propagationMethod is in use",
            );
        }
        chosen.push(Propagation::NoCloud);
    }
    if method.config_drive.is_some() {
        if !seed(|v| v.cloud_init_config_drive.is_some()) {
            faults.required(&root_volumes(path), "a cloudInitConfigDrive volume must exist when the configDrive propagationMethod is in use");
        }
        chosen.push(Propagation::ConfigDrive);
    }
    if let Some(agent) = &method.qemu_guest_agent {
        let at = path.child("qemuGuestAgent").child("users");
        if agent.users.is_empty() {
            faults.required(&at, "");
        }
        for (i, user) in agent.users.iter().enumerate() {
            if user.is_empty()
                || user.len() > 32
                || !user
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            {
                faults.invalid(&at.index(i), user, "must be a user's name");
            }
        }
        chosen.push(Propagation::GuestAgent {
            users: agent.users.clone(),
        });
    }
    if chosen.len() != 1 {
        faults.required(path, "must have exactly one propagationMethod type set");
    }
    chosen.into_iter().next()
}

/// `….volumes` of the spec that the credential stands in.
fn root_volumes(path: &FieldPath) -> FieldPath {
    let text = path.as_str();
    let root = text.split(".accessCredentials").next().unwrap_or(text);
    FieldPath::new(root).child("volumes")
}
