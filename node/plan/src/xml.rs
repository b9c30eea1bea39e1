//! A small XML tree and its printed form: elements, attributes and text, always escaped.

use std::fmt::{Display, Write};

/// An element with its attributes and either children or text.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Element>,
    text: Option<String>,
}

impl Element {
    /// An empty element.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
            text: None,
        }
    }

    /// An element with text.
    pub(crate) fn with_text(name: &'static str, text: impl Display) -> Self {
        let mut element = Self::new(name);
        element.text = Some(text.to_string());
        element
    }

    /// Adds an attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Adds an attribute when there is a value.
    pub(crate) fn opt_attr(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Adds one child.
    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children; an `Option` is none or one.
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// Whether it has neither attributes, children nor text.
    pub(crate) fn is_bare(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty() && self.text.is_none()
    }

    /// The element as indented text with a final newline.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        // Writing to a String can't fail.
        let _ = write!(out, "{indent}<{}", self.name);
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}='{}'", escape(value));
        }
        match (&self.text, self.children.is_empty()) {
            (Some(text), _) => {
                let _ = writeln!(out, ">{}</{}>", escape(text), self.name);
            }
            (None, true) => out.push_str("/>\n"),
            (None, false) => {
                out.push_str(">\n");
                for child in &self.children {
                    child.write(out, depth + 1);
                }
                let _ = writeln!(out, "{indent}</{}>", self.name);
            }
        }
    }
}

/// The first character that XML 1.0 has no way to hold, if any.
pub(crate) fn unfit_character(text: &str) -> Option<char> {
    text.chars().find(|c| !fits(*c))
}

fn fits(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            // A parser folds these into spaces inside attributes.
            '\t' | '\n' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            // Texts of a manifest are checked before; this keeps the document well-formed whatever happens.
            c if !fits(c) => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_can_not_break_out_of_their_place() {
        let printed = Element::new("a")
            .attr("b", "x' onload='y\n<&>\"")
            .child(Element::with_text("c", "</c><evil/>"))
            .print();
        assert_eq!(
            printed,
            "<a b='x&apos; onload=&apos;y&#10;&lt;&amp;&gt;&quot;'>\n  <c>&lt;/c&gt;&lt;evil/&gt;</c>\n</a>\n"
        );
    }

    #[test]
    fn characters_that_xml_can_not_hold_are_found_and_never_printed() {
        assert_eq!(
            unfit_character("tab\tis fine, bell\u{7} is not"),
            Some('\u{7}')
        );
        assert_eq!(
            Element::with_text("a", "\u{0}").print(),
            "<a>\u{FFFD}</a>\n"
        );
    }
}
