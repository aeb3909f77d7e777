//! Markup in which text cannot stand unescaped.
//!
//! An [`Html`] is made of text, which is escaped, and of tags, whose names are fixed in the source.
//! Decides nothing of looks: those are in `page.css`.

/// A piece of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// Text as it is, whatever is in it.
    pub(super) fn text(text: &str) -> Self {
        Self(escaped(text))
    }

    /// A drawing that the plotting library wrote; it escapes its own text.
    pub(super) const fn drawing(svg: String) -> Self {
        Self(svg)
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &Self) {
        self.0.push_str(&piece.0);
    }

    /// This piece and then another.
    pub(super) fn then(mut self, piece: &Self) -> Self {
        self.push(piece);
        self
    }

    /// Whether nothing is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The markup.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromIterator<Self> for Html {
    fn from_iter<I: IntoIterator<Item = Self>>(pieces: I) -> Self {
        pieces.into_iter().fold(Self::default(), |all, piece| all.then(&piece))
    }
}

/// An element without attributes.
pub(super) fn tag(name: &'static str, inner: &Html) -> Html {
    element(name, &[], inner)
}

/// An element; values of attributes are escaped.
pub(super) fn element(
    name: &'static str,
    attributes: &[(&'static str, &str)],
    inner: &Html,
) -> Html {
    let attributes: String =
        attributes.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value))).collect();
    Html(format!("<{name}{attributes}>{}</{name}>\n", inner.as_str()))
}

/// A paragraph.
pub(super) fn paragraph(text: &str) -> Html {
    tag("p", &Html::text(text))
}

/// A sentence in a cell: may take several lines, where numbers may not.
pub(super) fn words(text: &str) -> Html {
    element("span", &[("class", "words")], &Html::text(text))
}

/// A section with a heading that can be linked to.
pub(super) fn section(anchor: &str, heading: &str, inner: &Html) -> Html {
    let heading = tag("h2", &Html::text(heading));
    element("section", &[("id", anchor)], &heading.then(inner))
}

/// A table: the first cell of each row is its head. Columns without any content are left out.
pub(super) fn table(caption: &str, head: &[&str], rows: &[Vec<Html>]) -> Html {
    let is_used =
        |column: &usize| rows.iter().any(|row| row.get(*column).is_some_and(|c| !c.is_empty()));
    let used: Vec<usize> = (0..head.len()).filter(is_used).collect();
    let heads = used.iter().map(|column| {
        element("th", &[("scope", "col")], &Html::text(head.get(*column).copied().unwrap_or("")))
    });
    let head = tag("thead", &tag("tr", &heads.collect()));
    let body: Html = rows.iter().map(|cells| row(cells, &used)).collect();
    let caption_tag = tag("caption", &tag("span", &Html::text(caption)));
    let table = tag("table", &caption_tag.then(&head).then(&tag("tbody", &body)));
    // What scrolls must be reachable by keyboard.
    let attributes =
        [("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", caption)];
    element("div", &attributes, &table)
}

fn row(cells: &[Html], used: &[usize]) -> Html {
    let cell = |(place, column): (usize, &usize)| {
        let dash = Html::text("–");
        let cell = cells.get(*column).filter(|cell| !cell.is_empty()).unwrap_or(&dash);
        if place == 0 { element("th", &[("scope", "row")], cell) } else { tag("td", cell) }
    };
    tag("tr", &used.iter().enumerate().map(cell).collect())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let html = element("p", &[("title", "\"><script>")], &Html::text("a < b & 'c'"));
        let expected = "<p title=\"&quot;&gt;&lt;script&gt;\">a &lt; b &amp; &#39;c&#39;</p>\n";
        assert_eq!(html.as_str(), expected);
    }

    #[test]
    fn columns_without_content_are_left_out() {
        let row = vec![Html::text("x"), Html::default(), Html::text("1")];
        let html = table("t", &["name", "empty", "number"], &[row]);
        assert!(!html.as_str().contains("empty"));
        assert!(html.as_str().contains("number"));
    }
}
