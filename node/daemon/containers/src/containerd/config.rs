//! The private containerd's configuration: version 2 for containerd 1, version 3 for containerd 2.

use std::fmt::Write as _;
use std::path::Path;

use super::{PAUSE_IMAGE, PrivateOptions};

/// Plugins that nothing here uses: other snapshotters, tracing, and the old restart monitor.
const UNUSED_1: &[&str] = &[
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];
const UNUSED_2: &[&str] = &[
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.differ.v1.erofs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.nri.v1.nri",
    "io.containerd.tracing.processor.v1.otlp",
];

/// `f_type` of overlayfs, on which an overlay cannot have its upper folder.
const OVERLAYFS: i64 = 0x794c_7630;

/// The whole file.
pub(super) fn text(options: &PrivateOptions, runc: &Path, major: u32) -> String {
    let stacked = rustix::fs::statfs(&options.folder).is_ok_and(|stat| stat.f_type == OVERLAYFS);
    render(
        options,
        runc,
        major,
        if stacked { "native" } else { "overlayfs" },
    )
}

fn render(options: &PrivateOptions, runc: &Path, major: u32, snapshotter: &str) -> String {
    let folder = &options.folder;
    let mut text = String::from("# Written by catamaran at each start.\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    let (unused, images, runtime) = if major >= 2 {
        (
            UNUSED_2,
            "io.containerd.cri.v1.images",
            "io.containerd.cri.v1.runtime",
        )
    } else {
        (
            UNUSED_1,
            "io.containerd.grpc.v1.cri",
            "io.containerd.grpc.v1.cri",
        )
    };
    line(format_args!("version = {}", if major >= 2 { 3 } else { 2 }));
    line(format_args!("root = {}", quote(&folder.join("root"))));
    line(format_args!("state = {}", quote(&folder.join("state"))));
    line(format_args!("disabled_plugins = {unused:?}"));
    line(format_args!("[debug]\nlevel = \"warn\""));
    line(format_args!(
        "[grpc]\naddress = {}",
        quote(&folder.join("containerd.sock"))
    ));
    if major >= 2 {
        line(format_args!(
            "[plugins.\"{images}\"]\nsnapshotter = \"{snapshotter}\""
        ));
        line(format_args!(
            "[plugins.\"{images}\".pinned_images]\nsandbox = \"{PAUSE_IMAGE}\""
        ));
        line(format_args!("[plugins.\"{runtime}\"]"));
    } else {
        line(format_args!(
            "[plugins.\"{runtime}\"]\nsandbox_image = \"{PAUSE_IMAGE}\""
        ));
        line(format_args!("stream_server_address = \"127.0.0.1\""));
    }
    // Root in a sandbox may not lower a process's score.
    line(format_args!("restrict_oom_score_adj = true"));
    // Network namespaces go with the state folder, not into the host's /run/netns.
    line(format_args!("netns_mounts_under_state_dir = true"));
    line(format_args!("[plugins.\"{runtime}\".cni]"));
    line(format_args!(
        "bin_dir = {}\nconf_dir = {}",
        quote(&options.cni_bin_dir),
        quote(&options.cni_conf_dir)
    ));
    line(format_args!(
        "[plugins.\"{runtime}\".containerd]\ndefault_runtime_name = \"runc\""
    ));
    if major < 2 {
        line(format_args!("snapshotter = \"{snapshotter}\""));
    }
    line(format_args!(
        "[plugins.\"{runtime}\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\""
    ));
    line(format_args!(
        "[plugins.\"{runtime}\".containerd.runtimes.runc.options]"
    ));
    line(format_args!(
        "BinaryName = {}\nRoot = {}\nSystemdCgroup = false",
        quote(runc),
        quote(&folder.join("runc"))
    ));
    if let Some(folder) = &options.registries_dir {
        line(format_args!(
            "[plugins.\"{images}\".registry]\nconfig_path = {}",
            quote(folder)
        ));
    }
    if major >= 2 {
        line(format_args!(
            "[plugins.\"io.containerd.grpc.v1.cri\"]\nstream_server_address = \"127.0.0.1\""
        ));
    }
    text
}

/// A TOML string.
fn quote(path: &Path) -> String {
    let mut text = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> PrivateOptions {
        PrivateOptions {
            cni_bin_dir: "/usr/lib/cni".into(),
            registries_dir: None,
            ..PrivateOptions::new("/s/containerd", "/s/network/cni")
        }
    }

    #[test]
    fn containerd_1_gets_version_2_with_our_pause_image() {
        let text = render(&options(), Path::new("/usr/sbin/runc"), 1, "overlayfs");
        for line in [
            "version = 2",
            "sandbox_image = \"catamaran.local/pause:dev\"",
            "restrict_oom_score_adj = true",
            "conf_dir = \"/s/network/cni\"",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        assert!(!text.contains("cri.v1"));
    }

    #[test]
    fn containerd_2_gets_version_3_with_our_pause_image() {
        let text = render(&options(), Path::new("/usr/sbin/runc"), 2, "native");
        for line in [
            "version = 3",
            "sandbox = \"catamaran.local/pause:dev\"",
            "snapshotter = \"native\"",
            "[plugins.\"io.containerd.cri.v1.runtime\".cni]",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_path_cannot_end_its_string() {
        assert_eq!(quote(Path::new("/a\"b\\c\n")), "\"/a\\\"b\\\\c\\u000A\"");
    }
}
