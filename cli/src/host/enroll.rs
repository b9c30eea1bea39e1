//! `host enroll`: the Secret of a BMC and its host from flags.

use std::collections::BTreeMap;
use std::path::Path;

use catamaran_api::metal3::{BareMetalHost, BareMetalHostSpec, BmcDetails};
use serde_json::{Value, json};

use super::make;
use super::wait::{Wanted, wait};
use crate::args::{DryRun, Enroll, Globals};
use crate::connection::Connection;
use crate::create::{label, read};
use crate::error::Error;

/// `host enroll`.
pub(super) async fn run(globals: &Globals, args: &Enroll) -> Result<(), Error> {
    args.making.format()?;
    if args.making.dry_run.is_some() && args.waiting.wait {
        return Err(Error::Usage(
            "--wait waits for nothing with --dry-run".to_owned(),
        ));
    }
    let password = match (&args.password_file, args.password_stdin) {
        (Some(file), _) => Some(secret_in(file)?),
        (None, true) => Some(secret_in(Path::new("-"))?),
        (None, false) => None,
    };
    let authority = match &args.ca {
        Some(file) => Some(read(file)?),
        None => None,
    };
    let wanted = Wanting {
        args,
        namespace: globals.namespace.as_deref(),
        password,
        authority,
    };
    let objects = wanted.objects().map_err(Error::Usage)?;
    if args.making.dry_run == Some(DryRun::Client) {
        return make::all(None, &objects, &args.making).await;
    }
    let connection = Connection::open(globals).await?;
    make::all(Some(&connection), &objects, &args.making).await?;
    let name = &args.host.name;
    wait(&connection, name, args.waiting, &Wanted::Enrolled)
        .await
        .map(drop)
}

/// A password or token: one line.
pub(super) fn secret_in(file: &Path) -> Result<String, Error> {
    let text = read(file)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains('\n') {
        let lines = text.lines().count();
        return Err(Error::Usage(format!(
            "{}: a password is one line that is not empty; there are {lines} lines",
            file.display()
        )));
    }
    Ok(text.to_owned())
}

/// The Secret of a BMC.
pub(super) fn secret(
    name: &str,
    namespace: Option<&str>,
    (user, password): (&str, &str),
    authority: Option<&str>,
) -> Value {
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque",
        "stringData": {"username": user, "password": password},
    });
    if let Some(namespace) = namespace {
        secret["metadata"]["namespace"] = namespace.into();
    }
    if let Some(authority) = authority {
        secret["stringData"]["ca.crt"] = authority.into();
    }
    secret
}

/// A name that Kubernetes takes: RFC 1123.
pub(super) fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    // The Secret's name is longer.
    name.len() <= 249 && name.split('.').all(part)
}

/// What is to be made of, with the files read.
struct Wanting<'a> {
    args: &'a Enroll,
    namespace: Option<&'a str>,
    password: Option<String>,
    authority: Option<String>,
}

impl Wanting<'_> {
    /// The Secret, if one is to be made, and the host; or all that is wrong. Pure.
    fn objects(&self) -> Result<Vec<Value>, String> {
        let args = self.args;
        let name = &args.host.name;
        let mut wrong = Vec::new();
        if !is_name(name) {
            wrong.push(format!(
                "name {name:?}: allowed are lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
            ));
        }
        if let Err(error) = args.bmc.parse::<catamaran_redfish::Address>() {
            wrong.push(format!("--bmc {:?}: {error}", args.bmc));
        }
        if let Some(mac) = &args.mac
            && !is_mac(mac)
        {
            wrong.push(format!(
                "--mac {mac:?}: must be six pairs of hexadecimal digits with colons, such as 52:54:00:12:34:56"
            ));
        }
        if let Some(fingerprint) = &args.fingerprint
            && let Err(error) = fingerprint.parse::<catamaran_redfish::Fingerprint>()
        {
            wrong.push(format!("--fingerprint: {error}"));
        }
        if let Some(authority) = &self.authority
            && !authority.contains("-----BEGIN CERTIFICATE-----")
        {
            wrong.push("--ca: the file has no certificate in PEM".to_owned());
        }
        let labels = labels(&args.labels, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong.join("\n       "));
        }
        let mut objects = Vec::new();
        let credentials = match (&args.credentials, &args.user, &self.password) {
            (None, Some(user), Some(password)) => {
                let secret_name = format!("{name}-bmc");
                let authority = self.authority.as_deref();
                let login = (user.as_str(), password.as_str());
                objects.push(secret(&secret_name, self.namespace, login, authority));
                secret_name
            }
            (credentials, ..) => credentials.clone().unwrap_or_default(),
        };
        let mut host = BareMetalHost::new(name, self.spec(credentials));
        host.metadata.namespace = self.namespace.map(str::to_owned);
        host.metadata.labels = Some(labels).filter(|labels| !labels.is_empty());
        objects.push(serde_json::to_value(host).map_err(|error| error.to_string())?);
        Ok(objects)
    }

    fn spec(&self, credentials_name: String) -> BareMetalHostSpec {
        let args = self.args;
        BareMetalHostSpec {
            online: !args.offline,
            bmc: Some(BmcDetails {
                address: args.bmc.clone(),
                credentials_name,
                certificate_fingerprint: args.fingerprint.clone(),
                disable_certificate_verification: args.insecure.then_some(true),
            }),
            boot_mac_address: args.mac.as_ref().map(|mac| mac.to_lowercase()),
            boot_mode: args.boot_mode.clone(),
            inspection_mode: args.inspection.clone(),
            externally_provisioned: args.externally_provisioned.then_some(true),
            description: args.description.clone(),
            ..BareMetalHostSpec::default()
        }
    }
}

/// Six pairs of hexadecimal digits with colons.
pub(super) fn is_mac(mac: &str) -> bool {
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    mac.split(':').count() == 6 && mac.split(':').all(pair)
}

fn labels(words: &[String], wrong: &mut Vec<String>) -> BTreeMap<String, String> {
    let read = words.iter().map(|word| label(word));
    read.filter_map(|read| read.map_err(|why| wrong.push(why)).ok())
        .collect()
}

#[cfg(test)]
mod tests;
