"""Drives a machine with openshift-python-wrapper, which was written for the peer.

Usage: drive_kubevirt.py NAMESPACE IMAGE

Creates a machine of that disk image, starts, pauses, unpauses, restarts and stops it, reads what is known about it, and deletes it. Prints a line
after each step. Waits are the wrapper's own, so whatever it looks for must be there. Reads KUBECONFIG.
"""

import sys

from ocp_resources.resource import get_client
from ocp_resources.virtual_machine import VirtualMachine

TIMEOUT = 180


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
    assert machine.printable_status == VirtualMachine.Status.RUNNING, machine.printable_status
    said("started")
    assert vmi.interfaces[0].ipAddress == vmi.virt_launcher_pod.instance.status.podIP
    assert vmi.virt_handler_pod.exists
    said("read")
    vmi.pause(timeout=TIMEOUT, wait=True)
    assert machine.printable_status == VirtualMachine.Status.PAUSED, machine.printable_status
    said("paused")
    vmi.unpause(timeout=TIMEOUT, wait=True)
    said("unpaused")
    first = vmi.instance.metadata.uid
    machine.restart(timeout=TIMEOUT, wait=True)
    assert machine.vmi.instance.metadata.uid != first
    said("restarted")
    machine.stop(timeout=TIMEOUT, vmi_delete_timeout=TIMEOUT, wait=True)
    assert machine.printable_status == VirtualMachine.Status.STOPPED, machine.printable_status
    said("stopped")
    machine.delete(wait=True, timeout=TIMEOUT)
    said("deleted")


main()
