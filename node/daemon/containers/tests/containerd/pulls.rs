//! Images: from local layouts, from a registry with a login, or not at all.

use base64::Engine as _;
use catamaran_containers::{ContainerState, PodStatusSummary};
use serde_json::json;

use crate::registry::{LOGIN, Registry};
use crate::world::{FOREVER, busybox_layout, script, world};

fn waiting(status: &PodStatusSummary) -> (&str, &str) {
    match &status.containers[0].state {
        ContainerState::Waiting { reason, message } => (reason, message),
        _ => ("", ""),
    }
}

#[test]
fn images_of_a_registry_need_its_login() {
    world("registry", async |world| {
        let layout = world.folder.join("remote");
        busybox_layout(&layout, "1", &["/bin/sh"], "remote");
        let registry = Registry::serve(layout).await;
        world.connect().await;
        let image = format!("127.0.0.1:{}/team/app:1", registry.port);
        let pod = script(
            "app",
            FOREVER,
            json!({"image": image, "pod:imagePullSecrets": [{"name": "login"}]}),
        );
        let status = world
            .until(&pod, "refused", |status| {
                waiting(status).0 == "ErrImagePull"
            })
            .await;
        assert!(
            ["401", "authorization failed"]
                .iter()
                .any(|words| waiting(&status).1.contains(words)),
            "{status:#?}"
        );
        let status = world
            .until(&pod, "backing off", |status| {
                waiting(status).0 == "ImagePullBackOff"
            })
            .await;
        assert!(
            waiting(&status)
                .1
                .contains(&format!("Back-off pulling image \"{image}\"")),
            "{status:#?}"
        );

        let auths =
            json!({"auths": {format!("127.0.0.1:{}", registry.port): {"auth": LOGIN}}}).to_string();
        let data = base64::engine::general_purpose::STANDARD.encode(&auths);
        world.store.put(
            true,
            "login",
            &json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}}),
        );
        world.ready(&pod).await;
        assert_eq!(world.sh(&pod, "cat /etc/mark").await, "remote");

        // The same from a file, without a Secret.
        std::fs::write(world.folder.join("auth.json"), auths).unwrap();
        let other = script(
            "other",
            FOREVER,
            json!({"image": image, "imagePullPolicy": "Always"}),
        );
        world.ready(&other).await;

        // An image that is there is not pulled again; one that must be pulled is.
        drop(registry);
        world
            .ready(&script("third", FOREVER, json!({"image": image})))
            .await;
        let always = script(
            "fourth",
            FOREVER,
            json!({"image": image, "imagePullPolicy": "Always"}),
        );
        let status = world
            .until(&always, "an error", |status| {
                waiting(status).0 == "ErrImagePull"
            })
            .await;
        assert!(
            waiting(&status).1.contains("connection refused"),
            "{status:#?}"
        );
    });
}

#[test]
fn local_images_are_imported_verified_and_replaced_when_built_anew() {
    world("local images", async |world| {
        world.connect().await;
        let layout = world.folder.join("oci/app");
        busybox_layout(&layout, "dev", &["/bin/sh"], "one");
        let pod = script("app", FOREVER, json!({"image": "catamaran.local/app:dev"}));
        world.ready(&pod).await;
        assert_eq!(world.sh(&pod, "cat /etc/mark").await, "one");
        std::fs::remove_dir_all(&layout).unwrap();
        busybox_layout(&layout, "dev", &["/bin/sh"], "two");
        let again = script(
            "again",
            FOREVER,
            json!({"image": "catamaran.local/app:dev"}),
        );
        world.ready(&again).await;
        assert_eq!(world.sh(&again, "cat /etc/mark").await, "two");

        let broken = world.folder.join("oci/broken");
        busybox_layout(&broken, "dev", &["/bin/sh"], "three");
        let largest = std::fs::read_dir(broken.join("blobs/sha256"))
            .unwrap()
            .flatten()
            .max_by_key(|entry| entry.metadata().unwrap().len())
            .unwrap()
            .path();
        let mut content = std::fs::read(&largest).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(largest, content).unwrap();
        let pod = script(
            "broken",
            FOREVER,
            json!({"image": "catamaran.local/broken:dev"}),
        );
        let status = world
            .until(&pod, "an error", |status| {
                waiting(status).0 == "ErrImagePull"
            })
            .await;
        assert!(
            waiting(&status).1.contains("digest mismatch"),
            "{status:#?}"
        );

        for (name, image, policy, word, message) in [
            (
                "absent",
                "catamaran.local/absent:dev",
                "IfNotPresent",
                "ErrImagePull",
                "is in no local OCI layout",
            ),
            (
                "never",
                "registry.test/x:1",
                "Never",
                "ErrImageNeverPull",
                "not present with pull policy of Never",
            ),
        ] {
            let pod = script(
                name,
                FOREVER,
                json!({"image": image, "imagePullPolicy": policy}),
            );
            let status = world
                .until(&pod, word, |status| waiting(status).0 == word)
                .await;
            assert!(waiting(&status).1.contains(message), "{status:#?}");
        }
    });
}
