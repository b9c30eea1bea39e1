//! Guest memory: always a shared memfd, so that the kernel log can be read from outside and a restart can keep it.

use crate::draft::Draft;
use crate::xml::Element;

const KIB: u64 = 1 << 10;

/// `<memory>`, `<currentMemory>`, `<memoryBacking>`.
pub(crate) fn elements(draft: &mut Draft<'_>) -> Vec<Element> {
    let memory = &draft.spec.memory;
    let size = memory.guest / KIB;
    if memory.max_guest.is_some_and(|max| max > memory.guest) {
        draft.note("memory can't be plugged in here: maxGuest has no effect");
    }
    if let Some(page) = draft.spec.memory.hugepages {
        check_pages(draft, page);
    }
    let pages = draft.spec.memory.hugepages.map(|page| {
        Element::new("hugepages").child(
            Element::new("page")
                .attr("size", page / KIB)
                .attr("unit", "KiB"),
        )
    });
    let backing = Element::new("memoryBacking")
        .children(pages)
        .child(Element::new("source").attr("type", "memfd"))
        .child(Element::new("access").attr("mode", "shared"));
    vec![
        Element::with_text("memory", size).attr("unit", "KiB"),
        Element::with_text("currentMemory", size).attr("unit", "KiB"),
        backing,
    ]
}

fn check_pages(draft: &mut Draft<'_>, page: u64) {
    const FIELD: &str = "spec.domain.memory.hugepages.pageSize";
    let guest = draft.spec.memory.guest;
    if page == 0 || !guest.is_multiple_of(page) {
        draft.error(
            FIELD,
            format!("guest memory of {guest} bytes is no multiple of pages of {page} bytes"),
        );
        return;
    }
    match draft.facts.hugepages.iter().find(|(size, _)| *size == page) {
        None => {
            let sizes: Vec<String> = draft
                .facts
                .hugepages
                .iter()
                .map(|(size, _)| format!("{} KiB", size / KIB))
                .collect();
            let sizes = if sizes.is_empty() {
                "none".to_owned()
            } else {
                sizes.join(", ")
            };
            draft.error(
                FIELD,
                format!(
                    "this host has no huge pages of {} KiB; it has: {sizes}",
                    page / KIB
                ),
            );
        }
        Some((_, free)) if free.saturating_mul(page) < guest => {
            draft.error(
                FIELD,
                format!(
                    "{} huge pages of {} KiB are needed, {free} are free on this host",
                    guest / page,
                    page / KIB
                ),
            );
        }
        Some(_) => {}
    }
}
