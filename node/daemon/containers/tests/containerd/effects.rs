//! Each supported field has its effect in a container.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catamaran_containers::{ContainerState, LogOptions, PodSpec};
use futures::StreamExt as _;
use serde_json::json;

use crate::world::{BUSYBOX, FOREVER, mode, pod, script, world};

#[test]
fn environment_command_and_names() {
    world("environment", async |world| {
        world.store.put(
            false,
            "settings",
            &json!({"data": {"color": "red", "size": "3"}}),
        );
        world.store.put(
            true,
            "login",
            &json!({"data": {"user": "Ym9i"}, "stringData": {"password": "s3cret"}}),
        );
        world.connect().await;
        let pod = pod(
            "names",
            json!({
                "terminationGracePeriodSeconds": 1,
                "hostname": "boat",
                "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["quay", "pier"]}],
                "dnsConfig": {"searches": ["more.test"], "options": [{"name": "timeout", "value": "1"}]},
                "shareProcessNamespace": true,
                "containers": [{
                    "name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "workingDir": "/tmp",
                    "command": ["/bin/sh", "-c"], "args": ["echo \"$0 $1\"; pwd; trap 'exit 0' TERM; sleep 100000 & wait", "first=$(COLOR)", "second=$$(COLOR)"],
                    "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "CM_"}, {"secretRef": {"name": "login"}}, {"configMapRef": {"name": "absent", "optional": true}}, {"secretRef": {"name": "absent", "optional": true}}],
                    "env": [
                        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                        {"name": "USER_NAME", "valueFrom": {"secretKeyRef": {"name": "login", "key": "user"}}},
                        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "login", "key": "none", "optional": true}}},
                        {"name": "ABSENT_TOO", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "none", "optional": true}}},
                        {"name": "BOTH", "value": "$(USER_NAME)-$(COLOR)-$(NONE)"},
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}],
                }],
            }),
        );
        let status = world.ready(&pod).await;
        // Running is not yet having written everything.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while world.log(&pod, "main", LogOptions::default()).await.len() < 2 {
            assert!(std::time::Instant::now() < deadline, "nothing in the log");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            world.log(&pod, "main", LogOptions::default()).await,
            ["first=red second=$(COLOR)", "/tmp"]
        );
        let lines = world.sh(&pod, "echo $CM_color $CM_size $user $password $BOTH $POD $NODE $HOST_IP $FROM_IMAGE; echo $IP; env | grep -c ABSENT || true; hostname").await;
        let expected = format!(
            "red 3 bob s3cret bob-red-$(NONE) default node-1 192.0.2.1 yes\n{}\n0\nboat",
            status.pod_ips[0]
        );
        assert_eq!(lines, expected);
        let hosts = world.sh(&pod, "cat /etc/hosts").await;
        assert!(
            hosts.contains(&format!("{}\tboat", status.pod_ips[0]))
                && hosts.contains("192.0.2.7\tquay\tpier"),
            "{hosts}"
        );
        let resolv = world.sh(&pod, "cat /etc/resolv.conf").await;
        for line in [
            "nameserver 10.88.0.1",
            "search default.vm.test vm.test more.test",
            "options ndots:2 timeout:1",
        ] {
            assert!(
                resolv.lines().any(|found| found == line),
                "{line} in {resolv}"
            );
        }
        // With a shared process namespace the sandbox's process is number 1.
        assert!(
            world
                .sh(&pod, "cat /proc/1/cmdline")
                .await
                .contains("2147483647")
        );
    });
}

#[test]
fn volumes_have_their_content_modes_and_limits() {
    world("volumes", async |world| {
        world.store.put(
            false,
            "settings",
            &json!({"data": {"a": "A", "b": "B"}, "binaryData": {"c": "AAH/"}}),
        );
        world
            .store
            .put(true, "keys", &json!({"data": {"key": "c2VjcmV0"}}));
        world.connect().await;
        let host = world.folder.join("host");
        let pod = pod(
            "files",
            json!({
                "terminationGracePeriodSeconds": 1,
                "volumes": [
                    {"name": "all", "configMap": {"name": "settings"}},
                    {"name": "some", "configMap": {"name": "settings", "items": [{"key": "a", "path": "deep/a.txt", "mode": 0o600}]}},
                    {"name": "group", "configMap": {"name": "settings", "defaultMode": 0o640}},
                    {"name": "gone", "configMap": {"name": "absent", "optional": true}},
                    {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
                    {"name": "picked", "secret": {"secretName": "keys", "items": [{"key": "key", "path": "deep/key", "mode": 0o444}]}},
                    {"name": "none", "secret": {"secretName": "absent", "optional": true}},
                    {"name": "empty", "emptyDir": {}},
                    {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                    {"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}}],
                "containers": [{"name": "main", "image": BUSYBOX, "command": ["/bin/sh", "-c", FOREVER], "volumeMounts": [
                    {"name": "all", "mountPath": "/all"}, {"name": "some", "mountPath": "/some"}, {"name": "keys", "mountPath": "/keys"},
                    {"name": "group", "mountPath": "/group"}, {"name": "gone", "mountPath": "/gone"}, {"name": "picked", "mountPath": "/picked"},
                    {"name": "none", "mountPath": "/none"}, {"name": "empty", "mountPath": "/empty"}, {"name": "memory", "mountPath": "/memory"},
                    {"name": "host", "mountPath": "/host"}, {"name": "host", "mountPath": "/ro", "readOnly": true},
                    {"name": "all", "mountPath": "/etc/one-file", "subPath": "b"}]}],
            }),
        );
        world.ready(&pod).await;
        assert_eq!(world.sh(&pod, "cat /all/a /all/b /some/deep/a.txt /keys/key /picked/deep/key /etc/one-file; ls /none; ls /gone; stat -L -c %s /all/c").await, "ABAsecretsecretB3");
        assert_eq!(
            world
                .sh(
                    &pod,
                    "stat -L -c %a /all/a /some/deep/a.txt /keys/key /group/a /picked/deep/key"
                )
                .await,
            "644\n600\n400\n640\n444"
        );
        world
            .sh(
                &pod,
                "echo x > /empty/f; echo x > /memory/f; echo x > /host/f",
            )
            .await;
        for refused in ["echo x > /ro/g", "echo x > /all/a", "echo x > /keys/new"] {
            world
                .sh(
                    &pod,
                    &format!("! ( {refused} ) 2> /tmp/err && grep -q 'Read-only' /tmp/err"),
                )
                .await;
        }
        // 1 MiB is the limit of the volume in memory.
        world
            .sh(&pod, "! cat /bin/busybox > /memory/large 2> /dev/null")
            .await;
        assert_eq!(std::fs::read_to_string(host.join("f")).unwrap(), "x\n");
        assert_eq!(
            mode(&world.folder.join("pods")),
            0o700,
            "others on the host can read Secrets"
        );
    });
}

#[test]
fn security_context_is_obeyed() {
    world("security", async |world| {
        world.connect().await;
        let plain = script("plain", FOREVER, json!({}));
        world.ready(&plain).await;
        let status = world
            .sh(
                &plain,
                "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/1/status",
            )
            .await;
        assert_eq!(
            status, "CapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2",
            "the defaults"
        );
        world.sh(&plain, "! cat /proc/kcore 2> /dev/null > /dev/null; ! echo 1 2> /dev/null > /proc/sys/kernel/domainname").await;

        let tight = script(
            "tight",
            FOREVER,
            json!({
            "pod:securityContext": {"runAsUser": 1000, "supplementalGroups": [77], "runAsNonRoot": true},
            "securityContext": {"runAsGroup": 2000, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}),
        );
        world.ready(&tight).await;
        assert_eq!(
            world.sh(&tight, "id -u; id -g; id -G").await,
            "1000\n2000\n2000 77"
        );
        let status = world
            .sh(
                &tight,
                "grep -E '^(CapBnd|NoNewPrivs):' /proc/1/status; ! touch /etc/x 2> /dev/null",
            )
            .await;
        assert_eq!(status, "CapBnd:\t0000000000000400\nNoNewPrivs:\t1");

        let mine = script(
            "mine",
            FOREVER,
            json!({
            "pod:securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "seccompProfile": {"type": "Unconfined"}},
            "securityContext": {"runAsUser": 1500}}),
        );
        world.ready(&mine).await;
        assert_eq!(
            world
                .sh(&mine, "id -u; id -g; grep '^Seccomp:' /proc/1/status")
                .await,
            "1500\n3000\nSeccomp:\t0"
        );

        let wide = script(
            "wide",
            FOREVER,
            json!({"securityContext": {"privileged": true, "seccompProfile": {"type": "Unconfined"}}}),
        );
        world.ready(&wide).await;
        let status = world.sh(&wide, "grep '^Seccomp:' /proc/1/status; mount -t tmpfs none /tmp && echo mounted; test -e /dev/kmsg && echo devices").await;
        assert_eq!(status, "Seccomp:\t0\nmounted\ndevices");
    });
}

#[test]
fn resources_are_limits_of_the_cgroup() {
    world("resources", async |world| {
        world.connect().await;
        let pod = script(
            "small",
            FOREVER,
            json!({"resources": {"requests": {"cpu": "250m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "32Mi"}}}),
        );
        let status = world.ready(&pod).await;
        let id = status.containers[0]
            .container_id
            .strip_prefix("containerd://")
            .unwrap();
        let group = |controller: &str| {
            PathBuf::from(format!(
                "/sys/fs/cgroup{controller}/catamaran/pods-{}/default_small/{id}",
                world.instance()
            ))
        };
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
                .trim()
                .to_owned()
        };
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            assert_eq!(read(group("").join("cpu.max")), "50000 100000");
            assert_eq!(read(group("").join("memory.max")), (32 << 20).to_string());
        } else {
            assert_eq!(read(group("/cpu").join("cpu.shares")), "256");
            assert_eq!(read(group("/cpu").join("cpu.cfs_quota_us")), "50000");
            assert_eq!(
                read(group("/memory").join("memory.limit_in_bytes")),
                (32 << 20).to_string()
            );
        }
        // A container that takes more than its memory is killed and says so.
        let greedy = script(
            "greedy",
            "x=0123456789abcdef; while true; do x=$x$x; done",
            json!({"pod:restartPolicy": "Never", "resources": {"limits": {"memory": "16Mi"}}}),
        );
        let status = world
            .until(&greedy, "killed", |status| status.phase.is_ended())
            .await;
        assert_eq!(
            (
                status.printable().as_str(),
                status.containers[0].last_termination.is_none()
            ),
            ("OOMKilled", true)
        );
    });
}

#[test]
fn host_ports_lead_to_the_container_and_are_taken_once() {
    world("host ports", async |world| {
        world.connect().await;
        let server = |name: &str| {
            script(
                name,
                "mkdir -p /tmp/w; echo hello > /tmp/w/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp/w & wait",
                json!({"ports": [{"name": "http", "containerPort": 8080, "hostPort": 18080}], "readinessProbe": {"httpGet": {"port": "http", "path": "/index.html"}, "periodSeconds": 1}}),
            )
        };
        let web = server("web");
        world.ready(&web).await;
        // The bridge's own address is the host here.
        let mut stream = TcpStream::connect("10.88.0.1:18080").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .write_all(b"GET /index.html HTTP/1.0\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello\n"), "{answer}");

        let second = world
            .until(&server("second"), "refused", |status| {
                status.reason.is_some()
            })
            .await;
        assert_eq!(
            second.message.as_deref(),
            Some("host port 18080/TCP is in use by Pod default/web")
        );
        let taken = std::net::TcpListener::bind("0.0.0.0:18081").unwrap();
        let third = script(
            "third",
            FOREVER,
            json!({"ports": [{"containerPort": 1, "hostPort": 18081}]}),
        );
        let status = world
            .until(&third, "refused", |status| {
                status.reason.as_deref() == Some("HostPortConflict")
            })
            .await;
        assert!(
            status
                .message
                .unwrap()
                .contains("host port 18081/TCP cannot be used: Address already in use")
        );
        drop(taken);
        world.ready(&third).await;
    });
}

#[test]
fn probes_decide_who_is_ready_and_who_is_restarted() {
    world("probes", async |world| {
        world.connect().await;
        let slow = script(
            "slow",
            "trap 'exit 0' TERM; sleep 2; httpd -f -p 9000 -h /tmp & wait",
            json!({
            "ports": [{"name": "tcp", "containerPort": 9000}],
            "startupProbe": {"tcpSocket": {"port": "tcp"}, "periodSeconds": 1, "failureThreshold": 60},
            "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1},
            "livenessProbe": {"exec": {"command": ["test", "!", "-e", "/tmp/dead"]}, "periodSeconds": 1, "failureThreshold": 2, "terminationGracePeriodSeconds": 1}}),
        );
        let status = world
            .until(&slow, "running", |status| status.printable() == "Running")
            .await;
        assert!(
            !status.containers[0].started && !status.ready,
            "started before its startup probe succeeded"
        );
        let status = world
            .until(&slow, "started", |status| status.containers[0].started)
            .await;
        assert!(!status.ready);
        world.sh(&slow, "touch /tmp/ready").await;
        world.ready(&slow).await;
        world.sh(&slow, "rm /tmp/ready").await;
        world
            .until(&slow, "not ready", |status| !status.ready)
            .await;
        world.sh(&slow, "touch /tmp/dead").await;
        let status = world
            .until(&slow, "restarted by its liveness probe", |status| {
                status.containers[0].restart_count == 1
            })
            .await;
        assert!(status.containers[0].last_termination.is_some());
        // A new run begins unready, and alive.
        let status = world
            .until(&slow, "started again", |status| {
                status.containers[0].started
            })
            .await;
        assert_eq!(
            (status.ready, status.containers[0].restart_count),
            (false, 1)
        );
    });
}

#[test]
fn logs_have_tail_timestamps_and_both_streams() {
    world("logs", async |world| {
        world.connect().await;
        let pod = script(
            "talk",
            "for i in $(seq 5); do echo line $i; done; echo oops >&2; exit 0",
            json!({"pod:restartPolicy": "Never"}),
        );
        world
            .until(&pod, "ended", |status| status.phase.is_ended())
            .await;
        assert_eq!(
            world.log(&pod, "main", LogOptions::default()).await.len(),
            6
        );
        assert_eq!(
            world
                .log(
                    &pod,
                    "main",
                    LogOptions {
                        tail: Some(2),
                        follow: true,
                        ..LogOptions::default()
                    }
                )
                .await
                .len(),
            2
        );
        let error = world
            .pods()
            .logs(&pod, Some("other"), LogOptions::default())
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.to_string().contains("Pod default/talk has main"),
            "{error}"
        );
    });
}

#[test]
fn metadata_dns_policies_and_terminals() {
    world("metadata", async |world| {
        world.connect().await;
        let manifest = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "meta", "uid": "11111111-2222-3333-4444-555555555555", "labels": {"app": "boat"}, "annotations": {"note.test/a": "b c"}},
            "spec": {"terminationGracePeriodSeconds": 1, "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]}, "os": {"name": "linux"},
                "containers": [{"name": "main", "image": BUSYBOX, "tty": true, "command": ["/bin/sh", "-c", format!("test -t 1 && echo terminal; {FOREVER}")],
                    "env": [
                        {"name": "APP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['app']"}}},
                        {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note.test/a']"}}},
                        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]}]}});
        let (pod, warnings) = PodSpec::parse(&manifest).unwrap();
        assert_eq!(warnings, []);
        world.ready(&pod).await;
        assert_eq!(
            world.sh(&pod, "echo $APP $NOTE $POD_UID").await,
            "boat b c 11111111-2222-3333-4444-555555555555"
        );
        assert_eq!(
            world.sh(&pod, "cat /etc/resolv.conf").await,
            "nameserver 192.0.2.53"
        );
        let follow = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let mut lines = Box::pin(world.pods().logs(&pod, None, follow).unwrap());
        assert_eq!(
            lines.next().await.unwrap().unwrap().text.trim_end(),
            "terminal"
        );

        let host = script("host-dns", FOREVER, json!({"pod:dnsPolicy": "Default"}));
        world.ready(&host).await;
        assert_eq!(
            world.sh(&host, "cat /etc/resolv.conf").await,
            std::fs::read_to_string("/etc/resolv.conf")
                .unwrap()
                .trim_end()
        );
    });
}

#[test]
fn probes_have_delays_timeouts_thresholds_and_headers() {
    world("probe settings", async |world| {
        world.connect().await;
        let pod = script(
            "web",
            "trap 'exit 0' TERM; (while true; do echo -e 'HTTP/1.0 204 No\\r\\n\\r' | nc -l -p 9000 >> /tmp/requests; done) & wait",
            json!({
            "startupProbe": {"httpGet": {"port": 9000, "scheme": "HTTP", "path": "/up?a=b", "httpHeaders": [{"name": "X-Boat", "value": "cat"}]}, "periodSeconds": 1, "failureThreshold": 60},
            "readinessProbe": {"exec": {"command": ["/bin/sh", "-c", "echo x >> /tmp/asked"]}, "initialDelaySeconds": 3, "periodSeconds": 1, "successThreshold": 3}}),
        );
        let status = world.ready(&pod).await;
        let ContainerState::Running { started_at } = status.containers[0].state else {
            panic!("{status:#?}")
        };
        assert!(
            started_at.duration_since(jiff::Timestamp::now()).abs()
                >= jiff::SignedDuration::from_secs(5),
            "ready before three checks after the delay"
        );
        let asked: u32 = world
            .sh(&pod, "grep -c x /tmp/asked")
            .await
            .parse()
            .unwrap();
        assert!(asked >= 3, "{asked}");
        let request = world.sh(&pod, "cat /tmp/requests").await;
        assert!(
            request.starts_with("GET /up?a=b HTTP/1.1\r\nHost: ")
                && request.contains("\r\nX-Boat: cat"),
            "{request}"
        );

        let hung = script(
            "hung",
            FOREVER,
            json!({"livenessProbe": {"exec": {"command": ["sleep", "60"]}, "timeoutSeconds": 1, "periodSeconds": 1, "failureThreshold": 1}}),
        );
        world
            .until(&hung, "restarted", |status| {
                status.containers[0].restart_count >= 1
            })
            .await;
    });
}

#[test]
fn probes_ask_the_host_that_they_name() {
    world("probe hosts", async |world| {
        world.connect().await;
        // Nothing listens in the container.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            }
        });
        let pod = script(
            "elsewhere",
            FOREVER,
            json!({
            "startupProbe": {"tcpSocket": {"host": "127.0.0.1", "port": port}, "periodSeconds": 1},
            "readinessProbe": {"httpGet": {"host": "127.0.0.1", "port": port}, "periodSeconds": 1}}),
        );
        world.ready(&pod).await;
    });
}

#[test]
fn udp_host_ports_of_one_address_reach_the_network() {
    world("udp", async |world| {
        world.connect().await;
        let pod = script(
            "dns",
            FOREVER,
            json!({"ports": [{"containerPort": 53, "hostPort": 18053, "protocol": "UDP", "hostIP": "127.0.0.1"}]}),
        );
        world.ready(&pod).await;
        let rules = std::process::Command::new("iptables")
            .args(["-t", "nat", "-S"])
            .output()
            .unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        let dnat = rules
            .lines()
            .find(|line| line.contains("--to-destination"))
            .unwrap();
        for word in [
            "-d 127.0.0.1/32",
            "-p udp",
            "--dport 18053",
            "--to-destination 10.88.0.",
        ] {
            assert!(dnat.contains(word), "{word} in {rules}");
        }
    });
}
