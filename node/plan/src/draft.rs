//! A plan in the making: what it is made from, and what has come together so far.

use catamaran_spec::MachineSpec;

use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::given::Given;
use crate::plan::{Accelerator, FileSource, FileView, Prepare};

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub(crate) spec: &'a MachineSpec,
    pub(crate) facts: &'a HostFacts,
    pub(crate) given: &'a Given,
    pub(crate) errors: Vec<PlanError>,
    pub(crate) notes: Vec<String>,
    pub(crate) views: Vec<FileView>,
    pub(crate) prepare: Vec<Prepare>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(spec: &'a MachineSpec, facts: &'a HostFacts, given: &'a Given) -> Self {
        Self {
            spec,
            facts,
            given,
            errors: Vec::new(),
            notes: Vec::new(),
            views: Vec::new(),
            prepare: Vec::new(),
        }
    }

    pub(crate) fn emulated(&self) -> bool {
        self.facts.accelerator == Accelerator::Tcg
    }

    pub(crate) fn error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(PlanError::new(field, message));
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Shows a file or folder in the sandbox; the same one twice is shown once.
    pub(crate) fn view(&mut self, source: FileSource, inside: impl Into<String>, writable: bool) {
        let inside = inside.into();
        match self.views.iter_mut().find(|view| view.inside == inside) {
            Some(view) => view.writable |= writable,
            None => self.views.push(FileView {
                source,
                inside,
                writable,
            }),
        }
    }
}
