//! Login to the web console at an OpenID Connect provider, in Chromium: npm's `oidc-provider`, an API server that trusts it, and the controller
//! between them. What is done on the pages is in `controller/console/web/real/login`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use catamaran_tests::api_server::{ApiServer, free_port};
use catamaran_tests::command::{program, stdout};
use catamaran_tests::wait::Seen;
use catamaran_tests::{BOOT, pages, programs, wait_for};
use serde_json::json;

/// The console's name and password at the provider.
const CLIENT: &str = "catamaran-console";
const SECRET: &str = "s3cret & long";
/// For one answer.
const LIMIT: [&str; 2] = ["--max-time", "5"];

/// The provider. Ends with the value.
struct Provider(Child);

impl Drop for Provider {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Provider {
    /// Starts it; its certificate is in the folder, as is that of its authority.
    fn start(folder: &Path, issuer: &str, redirect: &str) -> Result<Self> {
        let file = |name: &str| folder.join(name).display().to_string();
        certificate(folder)?;
        let told = json!({
            "issuer": issuer, "key": file("provider.key"), "certificate": file("provider.crt"),
            "id": CLIENT, "secret": SECRET, "redirect": redirect,
        });
        let log = File::create(folder.join("provider.log"))?;
        let child = Command::new("node")
            .args(["real/login/provider.mjs", &told.to_string()])
            .current_dir(pages::web())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("node")?;
        let provider = Self(child);
        let metadata = format!("{issuer}/.well-known/openid-configuration");
        let trusted = file("authority.crt");
        wait_for("the provider answers", BOOT, || {
            let log = || fs::read_to_string(folder.join("provider.log")).unwrap_or_default();
            let answer = fetched(&["--cacert", &trusted, &metadata]);
            answer.map(Seen::Yes).with_context(log)
        })?;
        Ok(provider)
    }
}

/// What is answered at an address.
fn fetched(words: &[&str]) -> Result<String> {
    let mut curl = program("curl", ["--silent", "--show-error", "--fail"]);
    stdout(curl.args(LIMIT).args(words))
}

/// Makes an authority and the provider's certificate.
fn certificate(folder: &Path) -> Result<()> {
    let openssl = |words: &str| {
        let mut command = program("openssl", words.split(' '));
        stdout(command.current_dir(folder))
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=authority -keyout authority.key -out authority.crt -addext keyUsage=critical,keyCertSign"
    ))?;
    openssl(&format!(
        "req -new {key} -subj /CN=provider -keyout provider.key -out provider.csr"
    ))?;
    fs::write(
        folder.join("names"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
    )?;
    openssl(
        "x509 -req -in provider.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 -extfile names -out provider.crt",
    )
    .map(drop)
}

#[test]
fn people_log_in_at_a_provider() -> Result<()> {
    let programs = programs::find_all(&["catamaran-controller"])?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    // Another site than the provider's, as in the world.
    let address = format!("https://localhost:{port}");
    let issuer = format!("https://127.0.0.1:{}", free_port()?);
    let redirect = format!("{address}/console/api/login/callback");
    let _provider = Provider::start(folder.path(), &issuer, &redirect)?;
    let authority = folder.path().join("authority.crt");
    let server = ApiServer::start_with(&[
        format!("--oidc-issuer-url={issuer}"),
        format!("--oidc-client-id={CLIENT}"),
        format!("--oidc-ca-file={}", authority.display()),
        "--oidc-username-claim=email".to_owned(),
        "--oidc-username-prefix=oidc:".to_owned(),
        "--oidc-groups-claim=groups".to_owned(),
        "--oidc-groups-prefix=oidc:".to_owned(),
        // Our API wants to know who vouches for callers, though nobody asks it here.
        format!("--requestheader-client-ca-file={}", authority.display()),
    ])?;
    let kinds = "virtualmachines.kubevirt.io,virtualmachineinstances.kubevirt.io";
    let (verbs, kinds) = ("--verb=list,watch,get", format!("--resource={kinds}"));
    server.kubectl(&["create", "clusterrole", "looks", verbs, &kinds])?;
    let group = "--group=oidc:operators";
    let role = "--clusterrole=looks";
    server.kubectl(&["create", "clusterrolebinding", "looks", role, group])?;
    let _controller = server.controller_at(
        &programs,
        port,
        &[
            ("CATAMARAN_OIDC_ISSUER", &issuer),
            ("CATAMARAN_OIDC_CLIENT_ID", CLIENT),
            ("CATAMARAN_OIDC_CLIENT_SECRET", SECRET),
            (
                "CATAMARAN_OIDC_AUTHORITIES",
                &fs::read_to_string(&authority)?,
            ),
        ],
    )?;
    wait_for("the console answers", BOOT, || {
        let said = fetched(&["--insecure", &format!("{address}/console/api/mode")])?;
        Ok(Seen::when(said.contains("oidc"), said))
    })?;
    let said = pages::run(
        "login",
        &json!({
            "address": address, "browser": pages::chromium(), "browserFlags": ["--no-proxy-server"],
            "kubectl": [], "namespace": "", "image": "", "tokens": {},
        }),
    )?;
    eprintln!("{said}");
    Ok(())
}
