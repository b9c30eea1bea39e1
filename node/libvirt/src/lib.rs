//! Safe wrapper over the embedded libvirt QEMU driver.
