//! cloud-init user data, and SSH keys in it. Pure but for the reader of key files that is passed in.

use serde_yaml_ng::Value;

use crate::error::Error;

/// First line of user data that is YAML.
const CLOUD_CONFIG: &str = "#cloud-config";
/// Key of cloud-init for the default user's keys.
const KEYS: &str = "ssh_authorized_keys";
/// How public keys begin.
const KEY_TYPES: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

/// The keys of one `--ssh-key`: the word itself, or the lines of the file that it names.
pub(super) fn keys(
    word: &str,
    read: impl FnOnce(&str) -> Result<String, Error>,
) -> Result<Vec<String>, Error> {
    if is_key(word) {
        return Ok(vec![word.trim().to_owned()]);
    }
    let text = read(word)?;
    let lines = text.lines().map(str::trim);
    let keys: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    // A private key would end up in the object, where every viewer reads it.
    if keys.is_empty() || !keys.iter().all(|line| is_key(line)) {
        return Err(Error::Usage(format!(
            "--ssh-key {word:?}: the file holds no public key; each line must begin with a type such as ssh-ed25519"
        )));
    }
    Ok(keys)
}

fn is_key(text: &str) -> bool {
    let text = text.trim();
    KEY_TYPES.iter().any(|begin| text.starts_with(begin)) && text.contains(' ')
}

/// User data with keys for the default user.
pub(super) fn with_keys(
    user_data: Option<String>,
    keys: &[String],
) -> Result<Option<String>, String> {
    if keys.is_empty() {
        return Ok(user_data);
    }
    let text = user_data.unwrap_or_else(|| format!("{CLOUD_CONFIG}\n"));
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first != CLOUD_CONFIG {
        return Err(format!(
            "--ssh-key needs user data that begins with {CLOUD_CONFIG:?}, not with {first:?}"
        ));
    }
    let wrong = |what: &str| format!("--cloud-init: {what}");
    let mut config: Value =
        serde_yaml_ng::from_str(&text).map_err(|error| wrong(&error.to_string()))?;
    if config.is_null() {
        config = Value::Mapping(serde_yaml_ng::Mapping::new());
    }
    let map = config
        .as_mapping_mut()
        .ok_or_else(|| wrong("the user data is no mapping"))?;
    let list = map
        .entry(KEYS.into())
        .or_insert_with(|| Value::Sequence(Vec::new()))
        .as_sequence_mut()
        .ok_or_else(|| wrong(&format!("{KEYS} is no list")))?;
    list.extend(keys.iter().map(|key| Value::from(key.as_str())));
    let yaml = serde_yaml_ng::to_string(&config).map_err(|error| wrong(&error.to_string()))?;
    Ok(Some(format!("{CLOUD_CONFIG}\n{yaml}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here";

    fn file(text: &'static str) -> impl FnOnce(&str) -> Result<String, Error> {
        move |_| Ok(text.to_owned())
    }

    #[test]
    fn a_key_is_itself_or_a_file_of_keys() {
        assert_eq!(keys(KEY, file("")).unwrap(), [KEY]);
        let two = "# mine\nssh-rsa AAAA a\n\nssh-ed25519 BBBB b\n";
        assert_eq!(keys("keys.pub", file(two)).unwrap().len(), 2);
    }

    #[test]
    fn a_private_key_is_refused() {
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n";
        let error = keys("id_ed25519", file(private)).unwrap_err();
        assert!(error.to_string().contains("no public key"));
    }

    #[test]
    fn keys_join_what_the_user_data_says() {
        let text = "#cloud-config\nhostname: demo\nssh_authorized_keys: [ssh-rsa AAAA a]\n";
        let with = with_keys(Some(text.to_owned()), &[KEY.to_owned()]).unwrap();
        assert_eq!(
            with.unwrap(),
            format!(
                "#cloud-config\nhostname: demo\nssh_authorized_keys:\n- ssh-rsa AAAA a\n- {KEY}\n"
            )
        );
        let alone = with_keys(None, &[KEY.to_owned()]).unwrap().unwrap();
        assert_eq!(
            alone,
            format!("#cloud-config\nssh_authorized_keys:\n- {KEY}\n")
        );
    }

    #[test]
    fn keys_do_not_go_into_a_script() {
        let script = Some("#!/bin/sh\nreboot\n".to_owned());
        let error = with_keys(script, &[KEY.to_owned()]).unwrap_err();
        assert!(error.contains("not with \"#!/bin/sh\""), "{error}");
    }
}
