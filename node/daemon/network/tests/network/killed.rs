//! A daemon that is killed at any moment leaves something that the next one completes, or takes away.

use std::process::{Command, Stdio};
use std::time::Instant;

use catamaran_network::{HostNetwork, unbind};

use crate::sandbox::{example, on_a_host, run_in};

#[test]
fn a_daemon_killed_at_any_moment_is_completed_by_the_next() {
    on_a_host(async |host| {
        let before = host.snapshot().await;
        let netns = host.config.folder.join("netns/default_a");
        let run = |binding: &str| {
            let mut command = Command::new(example("attach_and_bind"));
            command
                .arg(&host.config.folder)
                .arg(binding)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        let state = || {
            let inside = run_in(
                &netns,
                "ip -br link; ip -br addr; ip route; ip -6 route; nft list ruleset",
            );
            let outside =
                host.run("ip -br link show ctm0; ip -br addr show ctm0; nft list ruleset");
            // The number of the other end differs from run to run.
            let text: Vec<&str> = inside.lines().chain(outside.lines()).collect();
            text.join("\n")
                .split_whitespace()
                .map(|word| word.split('@').next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join(" ")
        };
        for binding in ["bridge", "masquerade"] {
            let start = Instant::now();
            assert!(run(binding).wait().unwrap().success());
            let whole = start.elapsed();
            eprintln!("{binding}: attached and bound in {whole:?}");
            let wanted = state();
            unbind(&netns, "tap0", &host.config.folder.join("vm"))
                .await
                .unwrap();
            HostNetwork::remove(&host.config).await.unwrap();
            // Eight moments, evenly over the whole.
            for moment in 1..=8 {
                let mut daemon = run(binding);
                std::thread::sleep(whole * moment / 9);
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                assert!(
                    run(binding).wait().unwrap().success(),
                    "{binding}, killed at {moment}/9"
                );
                assert_eq!(state(), wanted, "{binding}, killed at {moment}/9");
                unbind(&netns, "tap0", &host.config.folder.join("vm"))
                    .await
                    .unwrap();

                // Killed in the same way, and then removed instead of completed.
                let mut daemon = run(binding);
                std::thread::sleep(whole * moment / 9);
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                HostNetwork::remove(&host.config).await.unwrap();
                assert_eq!(
                    host.snapshot().await,
                    before,
                    "{binding}, removed after {moment}/9"
                );
            }
        }
    });
}
