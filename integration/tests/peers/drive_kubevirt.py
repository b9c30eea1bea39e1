"""Drives a machine with openshift-python-wrapper, which was written for the peer.

Usage: drive_kubevirt.py NAMESPACE IMAGE

Creates a machine of that disk image, starts, pauses, unpauses, restarts and stops it, reads what is known about it, and deletes it. Prints a line
after each step. Waits are the wrapper's own, so whatever it looks for must be there. Reads KUBECONFIG.
"""

import sys
import time

from ocp_resources.resource import get_client
from ocp_resources.virtual_machine import VirtualMachine

TIMEOUT = 180


def wait_printable(machine, status):
    """The machine's own status follows its instance's, which the wrapper has waited for."""
    deadline = time.monotonic() + TIMEOUT
    while machine.printable_status != status:
        assert time.monotonic() < deadline, machine.printable_status
        time.sleep(0.2)


def spec(image):
    return {
        "runStrategy": VirtualMachine.RunStrategy.HALTED,
        "template": {
            "metadata": {"labels": {"app": "driven"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "domain": {
                    "memory": {"guest": "128Mi"},
                    "devices": {
                        "rng": {},
                        "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                        "interfaces": [{"name": "default", "masquerade": {}}],
                    },
                },
                "networks": [{"name": "default", "pod": {}}],
                "volumes": [{"name": "root", "containerDisk": {"image": image}}],
            },
        },
    }


def said(step):
    print(step, flush=True)


def main():
    namespace, image = sys.argv[1:]
    machine = VirtualMachine(
        client=get_client(),
        name="driven",
        namespace=namespace,
        body={"spec": spec(image)},
    )
    machine.deploy()
    said("created")
    machine.start(timeout=TIMEOUT, wait=True)
    vmi = machine.vmi
    vmi.wait_until_running(timeout=TIMEOUT)
    wait_printable(machine, VirtualMachine.Status.RUNNING)
    said("started")
    assert vmi.interfaces[0].ipAddress == vmi.virt_launcher_pod.instance.status.podIP
    assert vmi.virt_handler_pod.exists
    said("read")
    vmi.pause(timeout=TIMEOUT, wait=True)
    wait_printable(machine, VirtualMachine.Status.PAUSED)
    said("paused")
    vmi.unpause(timeout=TIMEOUT, wait=True)
    said("unpaused")
    first = vmi.instance.metadata.uid
    machine.restart(timeout=TIMEOUT, wait=True)
    assert machine.vmi.instance.metadata.uid != first
    said("restarted")
    machine.stop(timeout=TIMEOUT, vmi_delete_timeout=TIMEOUT, wait=True)
    wait_printable(machine, VirtualMachine.Status.STOPPED)
    said("stopped")
    machine.delete(wait=True, timeout=TIMEOUT)
    said("deleted")


main()
