//! Columns.

use anstyle::Style;
use std::fmt::Write;

/// One field of a row.
#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// The rows under the headings, each column as wide as it must be. Headings that start with a space
/// are of columns of numbers, which end in line.
pub fn render(headings: &[&str], rows: &[Vec<Cell>]) -> String {
    let bold = Style::new().bold();
    let first: Vec<Cell> = headings
        .iter()
        .map(|heading| Cell { text: heading.trim_start().to_owned(), style: bold })
        .collect();
    let rows: Vec<&[Cell]> =
        std::iter::once(first.as_slice()).chain(rows.iter().map(Vec::as_slice)).collect();
    let width = |column: usize| {
        rows.iter()
            // One that stands alone at the end of a short row may be as long as it likes.
            .filter(|row| column + 1 < row.len())
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.text.chars().count()));
            let Cell { text: field, style } = cell;
            let last = column + 1 == row.len();
            let _ = match (headings[column].starts_with(' '), last) {
                (true, _) => write!(text, "{pad}{style}{field}{style:#}"),
                (false, true) => write!(text, "{style}{field}{style:#}"),
                (false, false) => write!(text, "{style}{field}{style:#}{pad}"),
            };
            text.push_str(if last { "\n" } else { "  " });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_in_line() {
        let rows = vec![
            vec!["a".into(), "1".into(), "x".into()],
            vec!["long".into(), "100".into(), "y".into()],
        ];
        let text = super::render(&["NAME", " N", "END"], &rows);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(text, "NAME    N  END\na       1  x\nlong  100  y\n");
    }
}
