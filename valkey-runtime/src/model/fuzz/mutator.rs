//! Mutations of inputs.

use fastrand::Rng;

use crate::model::fuzz::LONGEST;

/// Numbers at the bounds of what formats hold.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 53,
    u64::MAX,
];

pub(super) struct Mutator {
    random: Rng,
    words: &'static [&'static [u8]],
}

impl Mutator {
    pub(super) fn new(seed: u64, words: &'static [&'static [u8]]) -> Self {
        let random = Rng::with_seed(seed);
        Self { random, words }
    }

    /// One of the inputs, changed a few times.
    pub(super) fn mutated(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        // Half of them are of the latest inputs, which are the least explored.
        let from = match self.random.bool() {
            true => pool.len().saturating_sub(16),
            false => 0,
        };
        let mut input = pool[self.random.usize(from..pool.len())].clone();
        // Most often one change, seldom eight.
        for _ in 0..1 << self.random.u8(0..4).min(self.random.u8(0..4)) {
            self.change(&mut input, pool);
        }
        input.truncate(LONGEST);
        input
    }

    fn at(&mut self, input: &[u8]) -> usize {
        self.random.usize(..=input.len())
    }

    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let (one, other) = (self.at(input), self.at(input));
        let (from, to) = (one.min(other), one.max(other));
        // Mostly short.
        let longest = [1, 2, 4, 16, usize::MAX][self.random.usize(..5)];
        from..to.min(from.saturating_add(longest))
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.at(input);
        match self.random.u8(..10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.random.u8(..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.random.u8(..);
                }
            }
            2 => input.insert(at, self.random.u8(..)),
            3 => drop(input.drain(self.range(input))),
            4 => {
                let piece = input[self.range(input)].to_vec();
                input.splice(at..at, piece);
            }
            5 => {
                let piece = input[self.range(input)].to_vec();
                let times = 1 << self.random.u8(..8);
                let times = (LONGEST / piece.len().max(1)).min(times);
                input.splice(at..at, piece.repeat(times));
            }
            6 => {
                let width = [1, 2, 4, 8][self.random.usize(..4)];
                let number = NUMBERS[self.random.usize(..NUMBERS.len())];
                let number = number.wrapping_add(self.random.u64(..3)).wrapping_sub(1);
                let bytes = &number.to_be_bytes()[8 - width..];
                let end = (at + width).min(input.len());
                input.splice(at..end, bytes.iter().copied());
            }
            7 => {
                let other = &pool[self.random.usize(..pool.len())];
                let piece = other[self.range(other)].to_vec();
                let end = self.random.usize(at..=input.len());
                input.splice(at..end, piece);
            }
            8 => input.truncate(at),
            _ => {
                if !self.words.is_empty() {
                    let word = self.words[self.random.usize(..self.words.len())];
                    input.splice(at..at, word.iter().copied());
                }
            }
        }
    }
}
