//! Tables in kubectl's manner: upper-case heads, columns three spaces apart, no lines.

/// A table; every row has as many cells as there are heads.
#[derive(Debug, Clone, Default)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    #[must_use]
    pub fn new(heads: &[&'static str]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Empty cells are shown as `<none>`; missing ones too.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells
            .into_iter()
            .map(|cell| {
                if cell.is_empty() {
                    "<none>".to_owned()
                } else {
                    printable(&cell)
                }
            })
            .collect();
        row.resize(self.heads.len(), "<none>".to_owned());
        self.rows.push(row);
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths: Vec<usize> = (0..self.heads.len())
            .map(|column| {
                self.rows
                    .iter()
                    .map(|row| row[column].chars().count())
                    .chain([self.heads[column].len()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let heads = self.heads.iter().map(|head| (*head).to_owned()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}   "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Words that come from guests are shown without control characters, so that they can't drive the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_cells_say_so() {
        let mut table = Table::new(&["NAME", "STATUS"]);
        table.row(["a-long-name".to_owned(), "Running".to_owned()]);
        table.row(["b".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "NAME          STATUS\na-long-name   Running\nb             <none>\n"
        );
    }

    #[test]
    fn words_of_a_guest_do_not_drive_the_terminal() {
        assert_eq!(printable("\u{1b}[2Jroot"), "\u{fffd}[2Jroot");
    }
}
