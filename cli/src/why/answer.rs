//! The answer: the first question of a list that has one. Pure.
//!
//! Order matters: what explains more comes first. A machine that is being deleted is not "paused"; an image that is missing explains why
//! the pod waits.

use catamaran_lifecycle::{BackOff, Phase, RunStrategy, VmView, VmiView};

use super::facts::Facts;
use super::{pod, volume};
use crate::connection::Seen;

/// Seconds that a node's daemon has to take an instance over, before that is the reason.
const TAKE_OVER: i64 = 60;

/// One sentence.
pub(crate) fn why(facts: &Facts) -> String {
    let questions = [
        absent,
        deleted,
        paused,
        node_lost,
        running,
        stopping,
        refused,
        stopped,
        unsynchronized,
        pod::waits,
        scheduled,
    ];
    let answer = questions.into_iter().find_map(|question| question(facts));
    let answer = answer.unwrap_or_else(|| {
        let phase = view(facts).map_or("unknown", |view| view.phase.as_str());
        format!(
            "{} is starting (phase {phase}), and nothing is known to be in its way.",
            facts.name
        )
    });
    answer + &outdated(facts).unwrap_or_default()
}

/// What was repaired of a machine that has not come up yet stays in its way until it begins anew.
fn outdated(facts: &Facts) -> Option<String> {
    let run = view(facts)?;
    let waits = !run.phase.is_final() && run.phase != Phase::Running && !run.deleting;
    (waits && restart_required(facts)).then(|| {
        format!(
            " What was changed of it since waits for `kubectl catamaran restart {}`.",
            facts.name
        )
    })
}

fn restart_required(facts: &Facts) -> bool {
    let status = facts.vm.there().and_then(|vm| vm.status.as_ref());
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    conditions.any(|c| c.type_ == "RestartRequired" && c.status == "True")
}

pub(super) fn view(facts: &Facts) -> Option<VmiView> {
    facts.vmi.there().map(VmiView::of)
}

/// Without the full stop that messages may or may not end with.
pub(super) fn clause(message: &str) -> &str {
    message.trim().trim_end_matches('.')
}

fn absent(facts: &Facts) -> Option<String> {
    let Facts {
        name, namespace, ..
    } = facts;
    match (&facts.vm, &facts.vmi) {
        (Seen::Missing, Seen::Missing) => Some(format!(
            "There is no virtual machine {name:?} in namespace {namespace:?}."
        )),
        (Seen::There(_), _) | (_, Seen::There(_)) => None,
        _ => Some(format!(
            "You may not read virtual machines in namespace {namespace:?}; its owner can give you the role \"view\"."
        )),
    }
}

fn deleted(facts: &Facts) -> Option<String> {
    let vm = facts.vm.there()?;
    vm.metadata.deletion_timestamp.as_ref()?;
    let name = &facts.name;
    Some(match facts.vmi {
        Seen::There(_) => {
            format!("{name} is being deleted, and its guest is still shutting down.")
        }
        _ => {
            let finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
            format!(
                "{name} is being deleted, and is held by the finalizers {}.",
                finalizers.join(", ")
            )
        }
    })
}

fn paused(facts: &Facts) -> Option<String> {
    let (reason, message) = facts.said("Paused", "True")?;
    let name = &facts.name;
    Some(match reason {
        "PausedByUser" => format!(
            "{name} is paused because somebody asked for it; `kubectl catamaran unpause {name}` lets it go on."
        ),
        "PausedByPanic" => format!(
            "{name} is paused because the guest's kernel has panicked; `kubectl catamaran dmesg {name}` shows its last words."
        ),
        "PausedIOError" => format!(
            "{name} is paused because {} could not write or read a disk: {}.",
            facts.node_words(),
            clause(message)
        ),
        _ => format!("{name} is paused: {}.", clause(message)),
    })
}

fn node_lost(facts: &Facts) -> Option<String> {
    let running = view(facts)?.phase == Phase::Running;
    let told = facts
        .said("Ready", "False")
        .is_some_and(|(reason, _)| reason == "NodeNotReady");
    let node = facts.node_name().and_then(|name| {
        let mut nodes = facts.nodes.iter();
        nodes.find(|node| node.metadata.name.as_deref() == Some(name))
    });
    let seen = node.is_some_and(|node| !pod::is_ready(node));
    (running && (told || seen)).then(|| {
        let what = if node.is_some_and(pod::says_not_ready) {
            "says that it is not ready"
        } else {
            "does not answer"
        };
        format!(
            "{} {what}, so nobody knows whether {} still runs there; it starts elsewhere only once the node is proved dead.",
            capital(&facts.node_words()),
            facts.name
        )
    })
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

fn running(facts: &Facts) -> Option<String> {
    let view = view(facts).filter(|view| view.phase == Phase::Running && !view.deleting)?;
    let name = &facts.name;
    if view.evicted {
        return Some(format!(
            "{name} is leaving {} because its pod was deleted or evicted there; its guest is shutting down.",
            facts.node_words()
        ));
    }
    if let Some((_, message)) = facts.said("Ready", "False") {
        let pod = facts.pod().and_then(|pod| pod.metadata.name.as_deref());
        let probe = pod.and_then(|pod| facts.warning("Pod", pod, &["Unhealthy"]));
        return Some(format!(
            "{name} runs but is not ready: {}.",
            clause(probe.unwrap_or(message))
        ));
    }
    let rest = if restart_required(facts) {
        format!("; what was changed of it waits for `kubectl catamaran restart {name}`")
    } else if let Some(words) = volume::stuck(facts) {
        format!(", but {words}")
    } else {
        String::new()
    };
    let node = facts.node_words();
    Some(format!("{name} runs on {node} and is ready{rest}."))
}

fn stopping(facts: &Facts) -> Option<String> {
    let view = view(facts).filter(|view| view.deleting && !view.phase.is_final())?;
    Some(format!(
        "{} is being stopped; its guest has {} s to shut down before it is killed.",
        facts.name, view.grace_seconds
    ))
}

/// The instance could not be made. Of one that is there, the machine's condition repeats what the instance says better.
fn refused(facts: &Facts) -> Option<String> {
    if view(facts).is_some() {
        return None;
    }
    let vm = facts.vm.there()?.status.as_ref()?;
    let mut conditions = vm.conditions.iter();
    let failure = conditions.find(|c| c.type_ == "Failure" && c.status == "True")?;
    let words = failure.message.as_deref().or(failure.reason.as_deref());
    Some(format!(
        "{} does not start because its instance can't be made: {}.",
        facts.name,
        clause(words.unwrap_or("the controller does not say why"))
    ))
}

/// Nothing runs and nothing is on its way.
fn stopped(facts: &Facts) -> Option<String> {
    let run = view(facts);
    if run.as_ref().is_some_and(|run| !run.phase.is_final()) {
        return None;
    }
    let name = &facts.name;
    let ended = facts.status().and_then(|status| status.reason.as_deref());
    let ended = ended.map(clause);
    let Some(vm) = facts.vm.there() else {
        let phase = run.map_or(Phase::Unset, |run| run.phase);
        return Some(match ended {
            Some(words) => format!("{name} has ended ({phase}): {words}."),
            None => format!("{name} has ended ({phase})."),
        });
    };
    let status = vm.status.clone().unwrap_or_default();
    let failures = status.start_failure.unwrap_or_default();
    let count = failures.consecutive_fail_count.unwrap_or(0);
    let machine = VmView::of(vm, "", BackOff::default()).ok()?;
    if count > 0 && machine.run_strategy.starts_by_itself() {
        let last = ended.or_else(|| {
            let reasons = ["Stopped", "FailedCreate", "GuestPanicked", "Failed"];
            facts
                .warning("VirtualMachineInstance", name, &reasons)
                .map(clause)
        });
        let last = last.map(|words| format!(" ({words})")).unwrap_or_default();
        let times = if count == 1 {
            "once"
        } else {
            "again and again"
        };
        let again = failures.retry_after_timestamp.map(|time| time.0);
        let wait = again.map_or(0, |time| time.as_second() - facts.now.as_second());
        let next = if wait > 0 {
            format!("it is tried again in {wait} s")
        } else {
            "it is tried again now".to_owned()
        };
        return Some(format!(
            "{name} waits because it has failed {times}, {count} in a row{last}; {next}."
        ));
    }
    let start = format!("`kubectl catamaran start {name}` starts it");
    let ended = ended
        .map(|words| format!(" after {words:?}"))
        .unwrap_or_default();
    Some(match machine.run_strategy {
        RunStrategy::Halted => {
            format!("{name} is stopped because its run strategy is Halted; {start}.")
        }
        RunStrategy::Manual => format!(
            "{name} is stopped because with run strategy Manual it runs only when told to; {start}."
        ),
        strategy @ (RunStrategy::Once | RunStrategy::RerunOnFailure) if run.is_some() => format!(
            "{name} has ended{ended}, and stays down because its run strategy is {}.",
            strategy.as_str()
        ),
        strategy @ (RunStrategy::Once | RunStrategy::RerunOnFailure)
            if status.printable_status.as_deref() == Some("Stopped") =>
        {
            format!(
                "{name} is stopped: its guest shut down or somebody stopped it, and run strategy {} leaves it so; {start}.",
                strategy.as_str()
            )
        }
        strategy => format!(
            "{name} should run (run strategy {}) but has no instance; the controller has not looked at it, or does not run.",
            strategy.as_str()
        ),
    })
}

/// Whoever drives the instance says what is in the way.
fn unsynchronized(facts: &Facts) -> Option<String> {
    let (reason, message) = facts.said("Synchronized", "False")?;
    let name = &facts.name;
    let words = clause(message);
    Some(match reason {
        "FailedPvcNotFound" => {
            format!("{name} does not start because a claim is missing: {words}.")
        }
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName"
        | "ImageInspectError" => pod::image(facts, words),
        _ if view(facts).is_some_and(|run| run.phase == Phase::Scheduled) => format!(
            "{name} does not start because {} can't run it: {words}.",
            facts.node_words()
        ),
        _ => format!("{name} does not start because its pod can't be made: {words}."),
    })
}

/// The pod runs, and the node's daemon has the word.
fn scheduled(facts: &Facts) -> Option<String> {
    view(facts).filter(|view| view.phase == Phase::Scheduled)?;
    let mut times = facts.status()?.phase_transition_timestamps.iter();
    let since = times
        .find(|time| time.phase.as_deref() == Some("Scheduled"))
        .and_then(|time| time.phase_transition_timestamp.as_ref());
    let age = since.map_or(0, |since| facts.now.as_second() - since.0.as_second());
    let (name, node) = (&facts.name, facts.node_words());
    Some(if age > TAKE_OVER {
        format!(
            "{name} does not start because the daemon of {node} has not started it for {age} s; does pod catamaran-node run there?"
        )
    } else {
        format!("{name} is being started by {node}.")
    })
}
