//! Pulls from registries: the Debian package's, open, with a password, with TLS; and one that fails in every way.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catamaran_images::{AuthFiles, Digest, Format, ImageError, ImageStore, PullAuth, PullPolicy};

use crate::build::{disk, disk_layer, gzip, layout_with, zstd};
use crate::fake::{Answer, Fake, from_layout};
use crate::setup::{
    Access, PASSWORD, Registry, USER, config, held, missing, mode, request, resolve, store,
};

type Encode = fn(&[u8]) -> Vec<u8>;

#[tokio::test]
async fn a_disk_is_pulled_from_a_registry_with_gzip_and_zstd_and_plain_layers() {
    if missing("a_disk_is_pulled_from_a_registry_with_gzip_and_zstd_and_plain_layers") {
        return;
    }
    let registry = Registry::start(Access::Open);
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let encodings: [(&str, Encode); 3] =
        [("gzip", gzip), ("zstd", zstd), ("plain", |b| b.to_vec())];
    for (name, encode) in encodings {
        let content = disk(name);
        let layout = folder.path().join(name);
        let layer = encode(&disk_layer(&content));
        layout_with(&layout, std::slice::from_ref(&layer));
        registry.push(&layout, &format!("{name}:1"));
        let found = resolve(&store, &registry.reference(&format!("{name}:1")))
            .await
            .unwrap();
        assert_eq!(fs::read(&found.path).unwrap(), content, "{name}");
        assert_eq!(found.format, Format::Raw);
        assert_eq!((found.virtual_size, found.size), (1 << 20, 1 << 20));
        assert_eq!(found.sha256, Digest::of(&content));
        assert_eq!(found.path_in_image, "/disk/disk.img");
        assert_eq!(mode(&found.path), 0o444);
        assert_eq!(found.layer, Digest::of(&layer));
        let pinned = registry.reference(&format!("{name}@{}", found.digest));
        assert_eq!(resolve(&store, &pinned).await.unwrap().path, found.path);
    }
    assert_eq!(
        held(folder.path()).len(),
        3,
        "no temporary files: {:?}",
        held(folder.path())
    );
}

#[tokio::test]
async fn a_registry_with_a_password_wants_the_right_one() {
    if missing("a_registry_with_a_password_wants_the_right_one") {
        return;
    }
    let registry = Registry::start(Access::Password);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    layout_with(&layout, &[gzip(&disk_layer(&disk("private")))]);
    registry.push(&layout, "team/private:1");
    let reference = registry.reference("team/private:1");
    let secret = |user: &str, password: &str| {
        format!(
            r#"{{"auths":{{"127.0.0.1:{}":{{"username":"{user}","password":"{password}"}}}}}}"#,
            registry.port
        )
    };

    let anonymous = store(folder.path());
    let error = resolve(&anonymous, &reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("there are none"), "{error}");

    let mut wrong = request(&reference);
    wrong.auth = PullAuth::none()
        .with_secret("default/pull", secret(USER, "canary-password").as_bytes())
        .unwrap();
    let error = anonymous.resolve(wrong, None).await.unwrap_err();
    assert!(
        error.to_string().contains("image pull secret default/pull"),
        "{error}"
    );
    assert!(
        !format!("{error} {error:?}").contains("canary"),
        "{error:?}"
    );

    let mut right = request(&reference);
    right.auth = PullAuth::none()
        .with_secret("default/old", secret(USER, "old").as_bytes())
        .unwrap()
        .with_secret("default/pull", secret(USER, PASSWORD).as_bytes())
        .unwrap();
    anonymous.resolve(right, None).await.unwrap();

    // The same by a file, as `podman login` leaves it.
    let file = folder.path().join("auth.json");
    fs::write(&file, secret(USER, PASSWORD)).unwrap();
    let mut config = config();
    config.registry.auth_files = AuthFiles::at(vec![folder.path().join("none.json"), file]);
    let by_file = ImageStore::open(&folder.path().join("other"), config).unwrap();
    resolve(&by_file, &reference).await.unwrap();
}

#[tokio::test]
async fn a_registry_with_tls_needs_its_authority() {
    if missing("a_registry_with_tls_needs_its_authority") {
        return;
    }
    let registry = Registry::start(Access::Tls);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    layout_with(&layout, &[gzip(&disk_layer(&disk("tls")))]);
    registry.push(&layout, "tls:1");
    let reference = registry.reference("tls:1");

    let error = resolve(&store(folder.path()), &reference)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(!error.is_transient());

    let authority = registry.folder.path().join("ca.crt");
    let mut by_file = config();
    by_file.registry.ca_files = vec![authority.clone()];
    let by_file = ImageStore::open(&folder.path().join("by-file"), by_file).unwrap();
    resolve(&by_file, &reference).await.unwrap();

    let own = folder
        .path()
        .join(format!("certs.d/127.0.0.1:{}", registry.port));
    fs::create_dir_all(&own).unwrap();
    fs::copy(&authority, own.join("ca.crt")).unwrap();
    let mut by_folder = config();
    by_folder.registry.ca_folders = vec![folder.path().join("certs.d")];
    let by_folder = ImageStore::open(&folder.path().join("by-folder"), by_folder).unwrap();
    resolve(&by_folder, &reference).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_was_changed_in_the_registry_is_refused_and_nothing_is_left() {
    if missing("a_blob_that_was_changed_in_the_registry_is_refused_and_nothing_is_left") {
        return;
    }
    let registry = Registry::start(Access::Open);
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let layer = gzip(&disk_layer(&disk("genuine")));
    layout_with(&layout, std::slice::from_ref(&layer));
    registry.push(&layout, "changed:1");
    let path = registry.blob_path(&Digest::of(&layer));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();

    let store = store(folder.path());
    let error = resolve(&store, &registry.reference("changed:1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ImageError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains(&Digest::of(&layer).to_string()),
        "{error}"
    );
    assert!(held(folder.path()).is_empty(), "{:?}", held(folder.path()));

    // The manifest, too.
    fs::write(&path, &layer).unwrap();
    let found = resolve(&store, &registry.reference("changed:1"))
        .await
        .unwrap();
    let manifest = registry.blob_path(&found.digest);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(
        &manifest,
        text.replace("\"schemaVersion\":2", "\"schemaVersion\": 2"),
    )
    .unwrap();
    let mut again = request(&registry.reference("changed:1"));
    again.policy = PullPolicy::Always;
    assert!(store.resolve(again, None).await.is_err());
}

#[tokio::test]
async fn a_registry_that_is_down_is_named_after_bounded_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let port = crate::setup::free_port();
    let error = resolve(&store(folder.path()), &format!("127.0.0.1:{port}/x:1"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("127.0.0.1:{port}"))
            && text.contains("refused")
            && text.contains("4 attempts"),
        "{text}"
    );
    assert!(error.is_transient());
    assert_eq!(error.reason(), "ErrImagePull");
    assert!(held(folder.path()).is_empty());
}

#[tokio::test]
async fn a_missing_image_is_named() {
    if missing("a_missing_image_is_named") {
        return;
    }
    let registry = Registry::start(Access::Open);
    let folder = tempfile::tempdir().unwrap();
    let error = resolve(&store(folder.path()), &registry.reference("nothing:1"))
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("nothing:1"), "{error}");
}

/// Serves a good image, except that `twist` may answer first.
fn twisted(
    layout: &Path,
    twist: impl Fn(&crate::fake::Asked) -> Option<Answer> + Send + Sync + 'static,
) -> Fake {
    let layout = layout.to_owned();
    Fake::start(move |asked| twist(asked).unwrap_or_else(|| from_layout(&layout, asked)))
}

fn good_layout(folder: &Path) -> std::path::PathBuf {
    let layout = folder.join("layout");
    layout_with(&layout, &[gzip(&disk_layer(&disk("good")))]);
    layout
}

#[tokio::test]
async fn failures_that_pass_are_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let layout = good_layout(folder.path());
    let count = AtomicUsize::new(0);
    let fake = twisted(&layout, move |asked| {
        if asked.path == "/v2/" {
            return None;
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Some(Answer::status(503)),
            1 => Some(Answer::status(429).header("Retry-After", "0")),
            // Half an answer, then the connection ends.
            4 => Some(Answer {
                length: Some(10_000_000),
                ..Answer::ok("half")
            }),
            _ => None,
        }
    });
    let store = store(folder.path());
    // The half answer declares another length than the manifest does: that is a mismatch, not a hiccup.
    let error = resolve(&store, &fake.reference("x:1")).await.unwrap_err();
    assert!(
        matches!(error, ImageError::DigestMismatch { .. }),
        "{error}"
    );
    resolve(&store, &fake.reference("x:1")).await.unwrap();
    assert!(fake.asked("/manifests/").len() >= 3);
}

#[tokio::test]
async fn a_layer_that_breaks_off_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let layout = good_layout(folder.path());
    let length = fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    let broken = AtomicUsize::new(0);
    let inner = layout.clone();
    let fake = twisted(&layout, move |asked| {
        let whole = from_layout(&inner, asked);
        if whole.body.len() as u64 == length && broken.fetch_add(1, Ordering::SeqCst) < 2 {
            let half = whole.body[..whole.body.len() / 2].to_vec();
            return Some(Answer {
                length: Some(length),
                ..Answer::ok(half)
            });
        }
        None
    });
    resolve(&store(folder.path()), &fake.reference("x:1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_registry_that_falls_silent_does_not_hold_a_pull_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let layout = good_layout(folder.path());
    let fake = twisted(&layout, |asked| {
        asked.path.contains("/blobs/").then(|| Answer {
            length: Some(2),
            stall: true,
            ..Answer::ok("")
        })
    });
    let mut config = config();
    config.registry.idle_timeout = Duration::from_millis(200);
    config.registry.attempts = 2;
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    let error = resolve(&store, &fake.reference("x:1")).await.unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::Registry {
                transient: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(held(folder.path()).is_empty());
}

#[tokio::test]
async fn a_token_server_is_asked_with_the_credentials_and_the_scope() {
    let folder = tempfile::tempdir().unwrap();
    let layout = good_layout(folder.path());
    let fake = Fake::start(move |asked| {
        if asked.path.starts_with("/token") {
            return match asked.authorization.as_deref() {
                Some("Basic YWxpY2U6czNjcmV0") => Answer::ok(r#"{"token":"t0ken"}"#),
                _ => Answer::status(401),
            };
        }
        if asked.authorization.as_deref() == Some("Bearer t0ken") {
            return from_layout(&layout, asked);
        }
        let realm = format!("http://{}/token", asked.host);
        Answer::status(401).header(
            "WWW-Authenticate",
            format!(r#"Bearer realm="{realm}",service="s v c",scope="repository:other:push""#),
        )
    });
    let mut wanted = request(&fake.reference("team/x:1"));
    let secret = format!(
        r#"{{"auths":{{"127.0.0.1:{}":{{"username":"{USER}","password":"{PASSWORD}"}}}}}}"#,
        fake.port
    );
    wanted.auth = PullAuth::none()
        .with_secret("s", secret.as_bytes())
        .unwrap();
    store(folder.path()).resolve(wanted, None).await.unwrap();
    let tokens = fake.asked("/token");
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert!(
        tokens[0]
            .path
            .contains("scope=repository%3Ateam%2Fx%3Apull"),
        "{tokens:?}"
    );
    assert!(tokens[0].path.contains("service=s+v+c"), "{tokens:?}");
}

#[tokio::test]
async fn a_proxy_is_used_where_one_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let layout = good_layout(folder.path());
    let proxy = Fake::start(move |asked| {
        let mut asked = asked.clone();
        let Some(path) = asked.path.strip_prefix("http://registry.test:5000") else {
            return Answer::status(502);
        };
        asked.path = path.to_owned();
        from_layout(&layout, &asked)
    });
    let mut config = config();
    config.registry.plain_http = vec!["registry.test:5000".to_owned()];
    config.registry.proxy = Some(format!("http://127.0.0.1:{}", proxy.port));
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    resolve(&store, "registry.test:5000/x:1").await.unwrap();
    assert_eq!(proxy.asked("http://registry.test:5000/v2/").len(), 3);
}
