//! What libvirt's files say of the machine's process.

use catamaran_host::process::is_alive;

/// The pid of the QEMU that libvirt's files in `libvirt_root` name, if it is alive.
#[must_use]
pub fn live_qemu(libvirt_root: &std::path::Path) -> Option<i32> {
    let entries = std::fs::read_dir(libvirt_root.join("run/qemu")).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|e| e == "pid")
                && path.file_stem().is_some_and(|s| s != "driver")
        })
        // swtpm's file lies beside it as NAME-swtpm.pid
        .filter(|path| !path.to_string_lossy().ends_with("-swtpm.pid"))
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        .find(|pid| is_alive(*pid))
}
