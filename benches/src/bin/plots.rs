//! Draws line charts as SVG, for `cargo xtask bench --report`.
//!
//! The first argument is a JSON file with the charts, and the second the folder for the pictures:
//!
//! ```json
//! [{"file": "get.svg", "title": "get", "x": [1, 8], "lines": [{"name": "a", "y": [1.0, 0.9]}]}]
//! ```
//!
//! The positions on the x axis are at equal distances. `null` is a point that was not measured.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

const SIZE: (u32, u32) = (820, 420);
/// Distinguishable also with the common colour blindnesses (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(120, 120, 120),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(0, 0, 0),
];
/// Of a bold line.
const BOLD: RGBColor = RGBColor(213, 94, 0);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [charts, folder] = &arguments[..] else {
        return Err("usage: plots <charts.json> <folder>".into());
    };
    let charts: Value = serde_json::from_slice(&std::fs::read(charts)?)?;
    for chart in charts.as_array().ok_or("the charts are no list")? {
        draw(chart, Path::new(folder))?;
    }
    Ok(())
}

fn draw(chart: &Value, folder: &Path) -> Result<(), Box<dyn Error>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let x: Vec<String> = list(&chart["x"]).iter().map(Value::to_string).collect();
    let lines = list(&chart["lines"]);
    let highest = lines
        .iter()
        .flat_map(|line| list(&line["y"]))
        .filter_map(|y| y.as_f64())
        .fold(1.0, f64::max);
    let last = x.len() as f64 - 1.0;

    let path = folder.join(text(&chart["file"]));
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut axes = ChartBuilder::on(&area)
        .caption(text(&chart["title"]), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.1..last + 2.4, 0.0..highest * 1.05)?;
    axes.configure_mesh()
        .disable_x_mesh()
        .max_light_lines(1)
        .x_labels(x.len() + 3)
        .x_label_formatter(&|at| {
            let whole = (at.round() - at).abs() < 0.01;
            let name = whole.then(|| x.get(at.round() as usize)).flatten();
            name.cloned().unwrap_or_default()
        })
        .y_label_formatter(&|y| format!("{y:.1}"))
        .x_desc(text(&chart["x_name"]))
        .y_desc(text(&chart["y_name"]))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let bold = line["bold"] == true;
        let (colour, width) = if bold { (BOLD, 4) } else { (colour, 2) };
        let points = list(&line["y"]);
        let points = points.iter().enumerate();
        let points: Vec<_> = points
            .filter_map(|(at, y)| Some((at as f64, y.as_f64()?)))
            .collect();
        axes.draw_series(
            LineSeries::new(points, colour.stroke_width(width)).point_size(width + 1),
        )?
        .label(text(&line["name"]))
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(width)));
    }
    axes.configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .border_style(TRANSPARENT)
        .draw()?;
    area.present()?;
    Ok(())
}
