//! A bar chart of the figures, drawn as SVG.

use std::fmt::Write as _;

use crate::peers::Kind;
use crate::report::Figure;

const BAR: f64 = 13.0;
const GROUP_GAP: f64 = 16.0;
const LABEL_WIDTH: f64 = 250.0;
const PLOT_WIDTH: f64 = 470.0;
const MARGIN: f64 = 20.0;
/// Longer bars are cut; their number still says how long they are.
const LONGEST: f64 = 6.0;

const fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "#1f6feb",
        Kind::HaProxy => "#8b949e",
        Kind::Nginx => "#57ab5a",
        Kind::Node => "#d29922",
        Kind::Direct => "#000000",
    }
}

const KINDS: [Kind; 4] = [Kind::Ours, Kind::HaProxy, Kind::Nginx, Kind::Node];

/// Horizontal bars, one group per figure, each in proportion to HAProxy's
/// median; whiskers are the least and the largest of all rounds.
pub(crate) fn bars(title: &str, figures: &[&Figure]) -> String {
    let all = figures
        .iter()
        .flat_map(|figure| KINDS.map(|kind| relative(figure, kind)));
    let longest = all
        .flatten()
        .map(|(_, _, max)| max)
        .fold(1.2, f64::max)
        .min(LONGEST);
    let x = |ratio: f64| LABEL_WIDTH + ratio.min(longest) / longest * PLOT_WIDTH;
    let mut y = 70.0;
    let mut body = String::new();
    for figure in figures {
        y = group(&mut body, figure, y, x) + GROUP_GAP;
    }
    let (one, end) = (x(1.0), y - 8.0);
    let legend = legend();
    let (width, height) = (LABEL_WIDTH + PLOT_WIDTH + 60.0, y + MARGIN);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{MARGIN}" y="24" font-size="15">{title}</text>
{legend}{body}<path d="M{one:.1} 60V{end:.1}" stroke="#444" stroke-dasharray="3 3"/>
</svg>
"##
    )
}

fn legend() -> String {
    let mut text = String::new();
    let mut at = LABEL_WIDTH;
    for kind in KINDS {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            r#"<rect x="{at}" y="40" width="10" height="10" fill="{}"/><text x="{}" y="49">{}</text>"#,
            colour(kind),
            at + 14.0,
            kind.name()
        );
        at += 110.0;
    }
    text
}

/// Draws a figure's bars from `y` on, and returns where they end.
fn group(body: &mut String, figure: &Figure, y: f64, x: impl Fn(f64) -> f64) -> f64 {
    let mut bars = String::new();
    let mut end = y;
    for kind in KINDS {
        let Some((min, median, max)) = relative(figure, kind) else {
            continue;
        };
        let (top, line) = (end + 1.0, end + BAR / 2.0);
        let _ = writeln!(
            bars,
            r##"<rect x="{LABEL_WIDTH}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{}"/>
<path d="M{:.1} {line:.1}H{:.1}" stroke="#444"/><text x="{:.1}" y="{:.1}" font-size="10">{median:.2}</text>"##,
            x(median) - LABEL_WIDTH,
            BAR - 2.0,
            colour(kind),
            x(min),
            x(max),
            x(max) + 4.0,
            line + 3.5
        );
        end += BAR;
    }
    let (right, middle) = (LABEL_WIDTH - 8.0, f64::midpoint(y, end) + 4.0);
    let title = &figure.title;
    let _ = writeln!(
        body,
        r#"<text x="{right}" y="{middle:.1}" text-anchor="end">{title}</text>"#
    );
    body.push_str(&bars);
    end
}

/// Least, median and largest of a figure, over HAProxy's median.
fn relative(figure: &Figure, kind: Kind) -> Option<(f64, f64, f64)> {
    let base = figure.of(Kind::HaProxy)?.spread().median;
    let spread = figure.of(kind)?.spread();
    let ratios = (spread.min / base, spread.median / base, spread.max / base);
    ratios.1.is_finite().then_some(ratios)
}
