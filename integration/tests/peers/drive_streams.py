"""Uses console, screen and forwarded ports of a machine with the minimal guest, through the API server.

Usage: drive_streams.py NAMESPACE MACHINE [FEATURE...]

Features: boot, for a machine that is about to start; browser, where the access is by a token, to open the console as a browser does. Prints a line
after each step; ends with a traceback when something is not as it should be. Reads KUBECONFIG.
"""

import sys
import time

import streams

# Seconds in which an emulated guest boots and all is done.
TIMEOUT = 170

namespace, name, *features = sys.argv[1:]
access = streams.Access()
deadline = time.monotonic() + TIMEOUT


def path(subresource, kind="virtualmachineinstances", version="v1"):
    return f"/apis/subresources.kubevirt.io/{version}/namespaces/{namespace}/{kind}/{name}/{subresource}"


def stream(*where, browser=False, **more):
    return streams.Stream(access, path(*where, **more), deadline, browser)


def said(step):
    print(step, flush=True)


def use_console(console):
    """Runs commands in the shell of root, which tells its prompt again for an empty line."""
    console.write(b"\n")
    console.until(b"# ")
    # The terminal echoes what is typed: the answer is none of it.
    console.write(b"echo sum-$((40 + 2)) $(hostname).\n")
    console.until(f"sum-42 {name}.".encode())
    console.write(b"seq -s, 1 5000\n")
    counted = console.until(b",5000").replace(b"\r", b"").replace(b"\n", b"")
    assert counted.endswith(",".join(map(str, range(1, 5001))).encode()), counted


def get_page(where, **more):
    with stream(where, **more) as tunnel:
        status, text = streams.page(tunnel, "/hostname")
    assert status.split()[1] == "200" and text.strip() == name, (status, text)


with stream("console", browser="browser" in features) as console:
    if "boot" in features:
        console.until(f"catamaran-guest ready: {name} ".encode())
        said("boot")
    use_console(console)
    said("console")

with stream("vnc") as screen:
    width, height, pixel = streams.greet(screen)
    assert width >= 320 and height >= 200, (width, height)
    pixels = streams.look(screen, width, height, pixel)
    assert len(pixels) == width * height * pixel, (len(pixels), width, height, pixel)
    assert any(pixels), "the screen is black"
said("screen")
picture = streams.screenshot(access, path("vnc/screenshot"))
assert picture.size == (width, height), (picture.size, width, height)
assert any(high for low, high in picture.convert("RGB").getextrema()), "the picture is black"
said("screenshot")

get_page("portforward/80")
get_page("portforward/80/tcp")
get_page("portforward/80", kind="virtualmachines")
get_page("portforward/80/tcp", kind="virtualmachines", version="v1alpha3")
said("ports")
