//! From a host's spec and Secret to a BMC that can be asked. Pure.

use catamaran_api::metal3::{BareMetalHost, CredentialsStatus};
use catamaran_redfish::{Credentials, Endpoint, Limits, Trust};
use k8s_openapi::api::core::v1::{Secret, SecretReference};

use crate::facts::Login;

/// The Secret that a host's BMC needs.
pub(crate) fn secret_name(host: &BareMetalHost) -> Option<&str> {
    host.spec
        .bmc
        .as_ref()
        .map(|bmc| bmc.credentials_name.as_str())
}

/// The endpoint, and the credentials' version; or why there is none.
pub(crate) fn endpoint(
    host: &BareMetalHost,
    secret: Option<&Secret>,
    limits: Limits,
) -> Result<(Endpoint, CredentialsStatus), Login> {
    let Some(bmc) = host.spec.bmc.as_ref().filter(|bmc| !bmc.address.is_empty()) else {
        return Err(Login::NoBmc);
    };
    let name = &bmc.credentials_name;
    let unusable = |why: String| Err(Login::Unusable(why));
    let Some(secret) = secret else {
        return unusable(format!(
            "spec.bmc.credentialsName: there is no Secret '{name}' in the host's namespace"
        ));
    };
    let entry = |key: &str| secret.data.as_ref()?.get(key).map(|value| value.0.clone());
    let text = |key: &str| {
        let value = entry(key).and_then(|bytes| String::from_utf8(bytes).ok());
        let value = value.map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            Login::Unusable(format!(
                "the Secret '{name}' has no '{key}', or it is empty or no text"
            ))
        })
    };
    let credentials = Credentials {
        username: text("username")?,
        password: text("password")?,
    };
    let address = match bmc.address.parse() {
        Ok(address) => address,
        Err(error) => return unusable(format!("spec.bmc.address: {error}")),
    };
    // The stricter way wins, so that a fingerprint is never looked past.
    let trust = match (&bmc.certificate_fingerprint, entry("ca.crt")) {
        (Some(fingerprint), _) => match fingerprint.parse() {
            Ok(fingerprint) => Trust::Pinned(fingerprint),
            Err(error) => return unusable(format!("spec.bmc.certificateFingerprint: {error}")),
        },
        (None, Some(authority)) => Trust::Authority(authority),
        (None, None) if bmc.disable_certificate_verification == Some(true) => Trust::Insecure,
        (None, None) => Trust::Public,
    };
    let mut endpoint = Endpoint::new(address, credentials);
    endpoint.trust = trust;
    endpoint.limits = limits;
    let version = CredentialsStatus {
        credentials: Some(SecretReference {
            name: Some(name.clone()),
            namespace: host.metadata.namespace.clone(),
        }),
        credentials_version: secret.metadata.resource_version.clone(),
    };
    Ok((endpoint, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn host(bmc: &serde_json::Value) -> BareMetalHost {
        serde_json::from_value(json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": "a", "namespace": "n"},
            "spec": {"online": true, "bmc": bmc},
        }))
        .unwrap()
    }

    fn secret(data: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        let data = data.iter().map(|(key, value)| {
            let value = k8s_openapi::ByteString(value.as_bytes().to_vec());
            ((*key).to_owned(), value)
        });
        secret.data = Some(data.collect());
        secret
    }

    fn why(host: &BareMetalHost, secret: Option<&Secret>) -> String {
        match endpoint(host, secret, Limits::default()) {
            Err(Login::Unusable(why)) => why,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let bmc = host(&json!({"address": "redfish://bmc", "credentialsName": "s"}));
        assert!(why(&bmc, None).contains("no Secret 's'"));
        assert!(why(&bmc, Some(&secret(&[("username", "a")]))).contains("has no 'password'"));
        let ipmi = host(&json!({"address": "ipmi://bmc", "credentialsName": "s"}));
        let good = secret(&[("username", "a"), ("password", "b\n")]);
        assert!(why(&ipmi, Some(&good)).contains("scheme 'ipmi' is not supported"));
    }

    #[test]
    fn a_fingerprint_is_never_looked_past() {
        let print = "ab".repeat(32);
        let bmc = host(&json!({
            "address": "redfish://bmc", "credentialsName": "s", "certificateFingerprint": print, "disableCertificateVerification": true
        }));
        let good = secret(&[("username", "a"), ("password", "b\n")]);
        let (endpoint, _) = endpoint(&bmc, Some(&good), Limits::default()).unwrap();
        assert_eq!(endpoint.trust, Trust::Pinned(print.parse().unwrap()));
        assert_eq!(endpoint.credentials.password, "b");
    }
}
