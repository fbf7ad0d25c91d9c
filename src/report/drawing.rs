//! What every picture shares: colours, the font, an SVG with its text alternative.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};

/// Near-black text on white.
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
/// Secondary text.
pub(super) const GREY: RGBColor = RGBColor(96, 96, 96);
/// The synthetic label.
pub(super) const WARNING: RGBColor = RGBColor(176, 58, 0);

/// An area in pixels.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws an SVG of `size` on white; `title` becomes its text alternative.
pub(super) fn svg(size: (u32, u32), title: &str, draw: impl FnOnce(&Area) -> Drawn) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present()).map_err(undrawable)?;
    drop(area);
    let title = escaped(title);
    Ok(text.replacen(">\n", &format!(" role=\"img\">\n<title>{title}</title>\n"), 1))
}

/// `text` as the content of an XML element.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What drawing into a string returns.
pub(super) type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

pub(super) fn undrawable(error: impl std::fmt::Display) -> Error {
    Error::Config(format!("cannot draw: {error}"))
}

/// A font whose em is `pixels` high in an SVG (plotters divides what it is given by 1.24), and nearly so in a bitmap.
///
/// An SVG's viewer has a font of its own; a bitmap gets Ubuntu Light, which also measures text for both.
pub(super) fn font(pixels: f64) -> FontDesc<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // a font that cannot be read makes drawing fail, with an error
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    ("sans-serif", pixels * 1.24).into_font()
}

/// One line of text; `at` is its middle in height.
pub(super) fn label(area: &Area, text: &str, at: (i32, i32), pixels: f64, colour: RGBColor, side: HPos) -> Drawn {
    let style = font(pixels).color(&colour).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_string(), at, style))
}
