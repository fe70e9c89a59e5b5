//! The constraint `geo`: how far from a place an instance may run. The root decides it by where clusters are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Location;

/// Mean radius of the earth.
const EARTH_METRES: f64 = 6_371_008.8;

/// Millionths of a degree, about a hand's breadth on the ground. Whole, so that what is equal is seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Microdegrees(pub i32);

impl Microdegrees {
    /// The nearest whole number of them; `None` for what is not from `-limit` to `limit` degrees.
    #[must_use]
    pub fn of_degrees(degrees: f64, limit: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "180 degrees are 180 millions, which fit")]
        let whole = (degrees * 1e6).round() as i32;
        (-limit..=limit).contains(&degrees).then_some(Self(whole))
    }

    /// As degrees.
    #[must_use]
    pub fn degrees(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

/// A place on earth and how far from it an instance may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistanceConstraint {
    /// Degrees north of the place.
    pub latitude: Microdegrees,
    /// Degrees east of it.
    pub longitude: Microdegrees,
    /// At most so far.
    pub within_metres: u32,
}

impl DistanceConstraint {
    /// Whether everything that a cluster at `location` covers is near enough. Where in it a device stands is not known
    /// to the root, so only this is certain.
    #[must_use]
    pub fn holds_at(&self, location: &Location) -> bool {
        self.farthest_metres(location) <= f64::from(self.within_metres)
    }

    /// How far the farthest point that a cluster at `location` covers may be.
    #[must_use]
    pub fn farthest_metres(&self, location: &Location) -> f64 {
        self.metres_to(location.latitude, location.longitude) + location.radius_metres
    }

    /// Along the great circle, by the haversine formula.
    fn metres_to(&self, latitude: f64, longitude: f64) -> f64 {
        let (from, to) = (self.latitude.degrees().to_radians(), latitude.to_radians());
        let half_north = (to - from) / 2.0;
        let half_east = (longitude - self.longitude.degrees()).to_radians() / 2.0;
        let chord = half_north.sin().powi(2) + from.cos() * to.cos() * half_east.sin().powi(2);
        2.0 * EARTH_METRES * chord.sqrt().min(1.0).asin()
    }
}

/// As users write it: `within 20 km of 11.575;48.137`.
impl fmt::Display for DistanceConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kilometres = f64::from(self.within_metres) / 1000.0;
        write!(f, "within {kilometres} km of {};{}", self.longitude.degrees(), self.latitude.degrees())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(metres: u32, latitude: i32, longitude: i32) -> DistanceConstraint {
        DistanceConstraint {
            latitude: Microdegrees(latitude),
            longitude: Microdegrees(longitude),
            within_metres: metres,
        }
    }

    fn at(latitude: f64, longitude: f64, radius_metres: f64) -> Location {
        Location { latitude, longitude, radius_metres }
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let munich = within(0, 48_137_000, 11_575_000);
        let berlin = munich.farthest_metres(&at(52.520, 13.405, 0.0));
        assert!((504_000.0..505_000.0).contains(&berlin), "{berlin}");
        // Over the date line, and to the other side of the earth.
        let fiji = within(0, -17_000_000, 179_500_000).farthest_metres(&at(-17.0, -179.5, 0.0));
        assert!((106_000.0..107_000.0).contains(&fiji), "{fiji}");
        let antipode = within(0, 0, 0).farthest_metres(&at(0.0, 180.0, 0.0));
        assert!((20_015_000.0..20_016_000.0).contains(&antipode), "{antipode}");
    }

    #[test]
    fn all_that_a_cluster_covers_must_be_near_enough() {
        let constraint = within(1500, 48_137_000, 11_575_000);
        assert!(constraint.holds_at(&at(48.137, 11.575, 1500.0)));
        assert!(!constraint.holds_at(&at(48.137, 11.575, 1501.0)));
        // 1.1 kilometres north.
        assert!(constraint.holds_at(&at(48.147, 11.575, 300.0)));
        assert!(!constraint.holds_at(&at(48.147, 11.575, 500.0)));
    }

    #[test]
    fn degrees_out_of_range_are_none() {
        assert_eq!(Microdegrees::of_degrees(90.0, 90.0), Some(Microdegrees(90_000_000)));
        assert_eq!(Microdegrees::of_degrees(-0.000_000_6, 90.0), Some(Microdegrees(-1)));
        assert_eq!(
            [90.1, f64::NAN, f64::NEG_INFINITY].map(|it| Microdegrees::of_degrees(it, 90.0)),
            [None; 3]
        );
    }
}
