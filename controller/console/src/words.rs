//! The words of requests: verbs, questions, streams.

/// What can be done to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it.
    Start,
    /// Shut it down.
    Stop,
    /// Shut it down and start it.
    Restart,
    /// Stop its processors.
    Pause,
    /// Let them go on.
    Unpause,
    /// Ask the guest to reboot.
    SoftReboot,
    /// Reset it without asking.
    Reset,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Pause,
        Self::Unpause,
        Self::SoftReboot,
        Self::Reset,
    ];

    /// By the name of the subresource.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }

    /// The name of the subresource.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::SoftReboot => "softreboot",
            Self::Reset => "reset",
        }
    }

    /// The resource that has the subresource.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::Start | Self::Stop | Self::Restart => "virtualmachines",
            Self::Pause | Self::Unpause | Self::SoftReboot | Self::Reset => {
                "virtualmachineinstances"
            }
        }
    }

    /// The field of the body that holds the grace period, where there is one.
    #[must_use]
    pub fn grace_field(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some("gracePeriod"),
            Self::Restart => Some("gracePeriodSeconds"),
            _ => None,
        }
    }
}

/// What can be asked of a running machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What the guest's agent says of its system.
    GuestOs,
    /// Who is logged in.
    Users,
    /// File systems.
    Filesystems,
    /// The kernel's log.
    Dmesg,
    /// What the screen shows.
    Screenshot,
    /// Who looks at its console and screen.
    Viewers,
    /// What it used in the last quarter of an hour.
    Usage,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::GuestOs,
        Self::Users,
        Self::Filesystems,
        Self::Dmesg,
        Self::Screenshot,
        Self::Viewers,
        Self::Usage,
    ];

    /// By its word in a path.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|asked| asked.word() == word)
    }

    /// Its word in a path.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::GuestOs => "guestosinfo",
            Self::Users => "userlist",
            Self::Filesystems => "filesystemlist",
            Self::Dmesg => "dmesg",
            Self::Screenshot => "screenshot",
            Self::Viewers => "viewers",
            Self::Usage => "usage",
        }
    }

    /// The subresource of an instance that answers it.
    #[must_use]
    pub fn subresource(self) -> &'static str {
        match self {
            Self::Screenshot => "vnc/screenshot",
            other => other.word(),
        }
    }

    /// Content type of the answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Dmesg => "text/plain; charset=utf-8",
            Self::Screenshot => "image/png",
            _ => "application/json",
        }
    }
}

/// What can be asked of a server's BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostQuestion {
    /// What it measures.
    Sensors,
    /// Its event log, newest first, without so many of the newest.
    Events(u32),
}

impl HostQuestion {
    /// The subresource that answers it.
    #[must_use]
    pub fn subresource(self) -> &'static str {
        match self {
            Self::Sensors => "sensors",
            Self::Events(_) => "events",
        }
    }
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeVerb {
    /// Nothing new starts there.
    Cordon,
    /// It takes new ones again.
    Uncordon,
    /// Cordon it and have its machines leave.
    Drain,
}

impl NodeVerb {
    /// By its word in a path.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "cordon" => Some(Self::Cordon),
            "uncordon" => Some(Self::Uncordon),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }

    /// Its word in a path.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::Drain => "drain",
        }
    }
}

/// What a browser can be connected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// The serial console.
    Console,
    /// The screen.
    Vnc,
}

impl StreamKind {
    /// The subresource of an instance.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Vnc => "vnc",
        }
    }

    /// Whether a message of the browser is something that its user did. noVNC asks for the screen's changes by itself; a message has one
    /// request of RFB (RFC 6143, 7.5), and keys, pointer, clipboard and QEMU's keys are 4, 5, 6 and 255.
    #[must_use]
    pub(crate) fn is_input(self, message: &[u8]) -> bool {
        match self {
            Self::Console => !message.is_empty(),
            Self::Vnc => matches!(message.first(), Some(4..=6 | 255)),
        }
    }
}

/// What is said of a viewer and the keyboard. Whoever opens a stream for writing can write: it is an arrangement between people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keyboard {
    /// He asks for it.
    Asked,
    /// He may take it.
    Given,
    /// Nothing: he asks no more, or does not get it.
    None,
}

/// How a stream is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Which.
    pub stream: StreamKind,
    /// Nothing that is typed arrives.
    pub read_only: bool,
    /// Begins with what was said before.
    pub replay: bool,
    /// Names this one use: whoever serves the machine refuses to serve it twice.
    pub once: String,
}

#[cfg(test)]
mod tests {
    use super::StreamKind;

    #[test]
    fn what_a_viewer_asks_for_by_itself_is_nothing_that_its_user_did() {
        let (update, key) = ([3, 1, 0, 0, 0, 0, 4, 0, 3, 0], [4, 1, 0, 0, 0, 0, 0, 65]);
        assert!(!StreamKind::Vnc.is_input(&update));
        assert!(!StreamKind::Vnc.is_input(b"RFB 003.008\n"));
        assert!(StreamKind::Vnc.is_input(&key));
        assert!(StreamKind::Console.is_input(b"l"));
    }
}
