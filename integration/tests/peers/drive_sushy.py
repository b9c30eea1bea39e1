"""Drives a BMC with sushy, the Redfish client of OpenStack Ironic, through what a deployment needs.

Usage: drive_sushy.py URL USER PASSWORD IMAGE [FEATURE...]

Features that not every BMC has: bios, inventory, once, sessions. Prints what it saw as one JSON object; ends with a traceback when something
is not as it should be.
"""

import json
import sys
import time

import sushy
from sushy import auth

url, user, password, image, *features = sys.argv[1:]
seen = {}


def until(what, holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what + " is still not so"
        time.sleep(0.1)


authentication = auth.SessionOrBasicAuth(user, password)
root = sushy.Sushy(url, verify=False, auth=authentication)
system = root.get_system()
seen["system"] = system.path
seen["uuid"] = system.uuid


def power():
    system.refresh(force=True)
    return system.power_state


def switch(reset, wanted):
    system.reset_system(reset)
    until("power is %s" % wanted, lambda: power() == wanted)


if power() != sushy.PowerState.OFF:
    switch(sushy.ResetType.FORCE_OFF, sushy.PowerState.OFF)

slots = []
for holder in [system] + system.managers:
    try:
        slots = [slot for slot in holder.virtual_media.get_members()
                 if any(kind in (sushy.VirtualMediaType.CD, sushy.VirtualMediaType.DVD) for kind in slot.media_types)]
    except sushy.exceptions.MissingAttributeError:
        continue
    if slots:
        break
assert slots, "no slot for a CD"
for slot in slots:
    try:
        slot.insert_media(image)
        break
    except sushy.exceptions.SushyError as error:
        seen.setdefault("dead_slots", []).append(str(error)[:60])
else:
    raise AssertionError("no slot takes the image")
slot.refresh(force=True)
assert slot.inserted and slot.image, "the image is not inserted"

system.refresh(force=True)
targets = system.get_allowed_system_boot_source_values()
target = sushy.BootSource.USB_CD if sushy.BootSource.USB_CD in targets else sushy.BootSource.CD
system.set_system_boot_options(target, enabled=sushy.BootSourceOverrideEnabled.ONCE)
system.refresh(force=True)
settings = system.boot
if "settings" in features:
    # The order is read back where it was given.
    settings = None
else:
    assert settings.target == target, settings.target
    seen["enabled"] = settings.enabled.value
switch(sushy.ResetType.ON, sushy.PowerState.ON)
system.refresh(force=True)
seen["after"] = system.boot.enabled.value
switch(sushy.ResetType.FORCE_OFF, sushy.PowerState.OFF)
slot.eject_media()
slot.refresh(force=True)
assert not slot.inserted, "the image is not ejected"

seen["macs"] = sorted(mac.lower() for mac in system.ethernet_interfaces.summary if mac)
if "inventory" in features:
    seen["memory_gib"] = system.memory_summary.size_gib
    seen["threads"] = system.processors.summary.count
    seen["disks"] = len(system.simple_storage.disks_sizes_bytes)
if "bios" in features:
    name = next(name for name, value in system.bios.attributes.items() if value == 0)
    system.bios.set_attribute(name, 8)
    switch(sushy.ResetType.ON, sushy.PowerState.ON)
    system.refresh(force=True)
    system.bios.refresh(force=True)
    assert system.bios.attributes[name] == 8, system.bios.attributes
    switch(sushy.ResetType.FORCE_OFF, sushy.PowerState.OFF)

authentication.close()
print(json.dumps(seen))
