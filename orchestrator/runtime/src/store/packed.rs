//! Compresses texts of the log to a sixth of their size. The log is most of what a registration writes, and its JSON is
//! repetitive. Frequent words take one or two characters, and each time is stored as the difference to the time before.
//!
//! | in a packed text | stands for |
//! |---|---|
//! | U+0001, its first character | the begin of a packed text |
//! | U+0002 to U+001D | one of the first words of [`WORDS`] |
//! | U+001E, and digits of base 32 | a number of 13 digits, which is a time in milliseconds |
//! | U+001F, and a character | one of the other words |
//! | any other character | itself |
//!
//! Promises: unpacking gives exactly the packed JSON, whatever its content: the words only influence the size. JSON
//! contains none of the control characters that are used here, because they are escaped in its strings.

use std::sync::LazyLock;

/// The first character of a packed text, and of no JSON.
pub(super) const PACKED: char = '\u{1}';
const FIRST_WORD: u8 = 0x02;
const SHORT_WORDS: usize = 28;
const TIME: u8 = 0x1e;
const OTHER_WORD: u8 = 0x1f;
/// The second character of a longer word is printable, and so are digits.
const FIRST_PRINTABLE: u8 = b' ';
const DIGITS_OF_TIME: usize = 13;
/// A digit has five bits of the number, and one bit for whether another digit follows. No number needs more than 13.
const DIGIT_BITS: u32 = 5;
const DIGITS_MAX: usize = 13;
const MORE_FOLLOW: u8 = 1 << DIGIT_BITS;

/// The frequent words of logs. A packed text stores their indexes, so an index never changes, and new words go to the
/// end. Many are words of registrations, because most sagas are registrations.
const WORDS: [&str; 71] = [
    // Short, because almost every saga has them.
    r#"{"event":"step_succeeded","step":""#,
    r#"","leg":"action","attempt":1,"started_at_ms":"#,
    r#","output":""#,
    r#","output":"{}"}],["#,
    r#""}],["#,
    r#"{"event":"finished"}]]"#,
    r#"{"event":"admitted","definition":""#,
    r#"","version":"#,
    r#","applies":[""#,
    r#""],"deadline_at_ms":"#,
    r#"",""#,
    "[[",
    "registration",
    "reserve_courses",
    "hold_seats",
    "assess_fees",
    "enroll",
    "settle_courses",
    "notify",
    r#"{\"added\":[{\"section\":\""#,
    r#"\",\"course\":\""#,
    r#"\",\"component\":\""#,
    r#"\",\"credits_hundredths\":"#,
    r#",\"term\":\""#,
    r#"\"},{\"section\":\""#,
    r#"\"}]}"}],["#,
    r#"{\"amount\":{\"currency\":\""#,
    r#"\",\"minor_units\":"#,
    // Longer, because few sagas have them.
    r#"}}"}],["#,
    r#"}]]"#,
    r#""}"#,
    r#","output":"{}"}"#,
    r#"","leg":"undo","attempt":1,"started_at_ms":"#,
    r#"{"event":"step_refused","step":""#,
    r#"","attempt":1,"started_at_ms":"#,
    r#","refusal":""#,
    r#"{"event":"turned","cause":{"kind":"refused"}}"#,
    r#"{"event":"turned","cause":{"kind":"cancelled","by":""#,
    r#"","reason":""#,
    r#"{"event":"step_failed","step":""#,
    r#","error":{"kind":""#,
    r#","next_attempt_at_ms":"#,
    r#","needs_attention":false}"#,
    r#","needs_attention":true}"#,
    r#"{"event":"adopted","by":""#,
    r#"{"event":"intervened","by":""#,
    r#"{"event":"turned_back","step":""#,
    "release_dropped_seats",
    "refund_fees",
    r#"{\"dropped\":[{\"section\":\""#,
    r#"\"}],\"dropped\":[{\"section\":\""#,
    r#"\",\"registration\":\""#,
    r#"[{\"reason\":\""#,
    r#"\"},{\"reason\":\""#,
    r#"\",\"section\":\""#,
    r#"\",\"conflicts_with\":\""#,
    r#"\",\"message\":\""#,
    r#"\",\"next_step\":\""#,
    r#"\",\"section_version\":"#,
    r#",\"closed_at\":"#,
    r#",\"capacity\":"#,
    r#",\"capacity_set_at\":"#,
    r#"}]"}],["#,
    r#"\"}]"}],["#,
    "CLOSED_SECTION",
    "TIME_CONFLICT",
    " is full: all ",
    " seats are taken. The last seat went at ",
    "Choose another section of the course, or try again when a seat is free.",
    "Choose a section at another time, or drop ",
    " in the same registration.",
];

/// The places of the words that begin with each character, the longest word first.
static BY_FIRST: LazyLock<[Vec<usize>; 128]> = LazyLock::new(|| {
    let mut places = std::array::from_fn(|first| {
        let begins = |place: &usize| usize::from(WORDS[*place].as_bytes()[0]) == first;
        (0..WORDS.len()).filter(begins).collect::<Vec<_>>()
    });
    for of_one in &mut places {
        of_one.sort_by_key(|place| std::cmp::Reverse(WORDS[*place].len()));
    }
    places
});

/// Adds JSON, packed. Its times are near `time`.
pub(super) fn pack(packed: &mut String, json: &str, time: i64) {
    let bytes = json.as_bytes();
    let (mut time_before, mut copied, mut at) = (time, 0, 0);
    while let Some(first) = bytes.get(at) {
        if first.is_ascii_digit() {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if let Some(time) = time_of(&json[at..at + digits]) {
                packed.push_str(&json[copied..at]);
                packed.push(char::from(TIME));
                // The sign is in the lowest bit, so that small differences of both kinds are short.
                let difference = time.wrapping_sub(time_before);
                push_number(packed, ((difference << 1) ^ (difference >> 63)) as u64);
                (time_before, copied) = (time, at + digits);
            }
            at += digits;
            continue;
        }
        let places = BY_FIRST.get(usize::from(*first)).map_or(&[][..], Vec::as_slice);
        match places.iter().find(|place| bytes[at..].starts_with(WORDS[**place].as_bytes())) {
            Some(place) => {
                packed.push_str(&json[copied..at]);
                push_word(packed, *place);
                at += WORDS[*place].len();
                copied = at;
            }
            None => at += 1,
        }
    }
    packed.push_str(&json[copied..]);
}

/// Whether a number can be restored from its value alone.
fn time_of(digits: &str) -> Option<i64> {
    if digits.len() != DIGITS_OF_TIME || digits.starts_with('0') { None } else { digits.parse().ok() }
}

fn push_word(packed: &mut String, place: usize) {
    // Both fit: a test counts the words.
    if place < SHORT_WORDS {
        packed.push(char::from(FIRST_WORD + place as u8));
    } else {
        packed.push(char::from(OTHER_WORD));
        packed.push(char::from(FIRST_PRINTABLE + (place - SHORT_WORDS) as u8));
    }
}

/// Adds a number in digits of base 32, the lowest first.
pub(super) fn push_number(packed: &mut String, number: u64) {
    let mut rest = number;
    loop {
        let digit = (rest & u64::from(MORE_FOLLOW - 1)) as u8;
        rest >>= DIGIT_BITS;
        let more = if rest == 0 { 0 } else { MORE_FOLLOW };
        packed.push(char::from(FIRST_PRINTABLE + (digit | more)));
        if rest == 0 {
            return;
        }
    }
}

/// The JSON of a text that was packed with this time; or why it can't be read.
pub(super) fn unpack(packed: &str, time: i64) -> Result<String, String> {
    let mut json = String::with_capacity(packed.len() * 8);
    let (mut time_before, mut rest) = (time, packed);
    while let Some(at) = rest.bytes().position(|byte| byte < FIRST_PRINTABLE) {
        json.push_str(&rest[..at]);
        let code = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        let word = match code {
            TIME => {
                let (folded, digits) = number(rest)?;
                time_before = time_before.wrapping_add((folded >> 1) as i64 ^ -((folded & 1) as i64));
                json.push_str(&time_before.to_string());
                rest = &rest[digits..];
                continue;
            }
            OTHER_WORD => {
                let other = rest.chars().next().filter(char::is_ascii).ok_or("it ends within a word")?;
                rest = &rest[1..];
                (other as usize + SHORT_WORDS).checked_sub(usize::from(FIRST_PRINTABLE))
            }
            word => usize::from(word).checked_sub(usize::from(FIRST_WORD)).filter(|place| *place < SHORT_WORDS),
        };
        let word = word.and_then(|place| WORDS.get(place));
        json.push_str(word.ok_or_else(|| format!("a newer build has packed it, with the word {code:#04x}"))?);
    }
    json.push_str(rest);
    Ok(json)
}

/// The number at the begin of a text, and how many digits it has.
pub(super) fn number(text: &str) -> Result<(u64, usize), String> {
    let mut number = 0_u64;
    for (place, byte) in text.bytes().enumerate().take(DIGITS_MAX) {
        let digit = byte.checked_sub(FIRST_PRINTABLE).filter(|digit| *digit < 2 * MORE_FOLLOW);
        let digit = digit.ok_or("a number in it is none")?;
        number |= u64::from(digit & (MORE_FOLLOW - 1)) << (place as u32 * DIGIT_BITS);
        if digit & MORE_FOLLOW == 0 {
            return Ok((number, place + 1));
        }
    }
    Err("it ends within a number".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[track_caller]
    fn check(json: &str, time: i64) -> usize {
        let mut packed = String::new();
        pack(&mut packed, json, time);
        assert!(!packed.contains(PACKED), "{packed:?}");
        assert_eq!(unpack(&packed, time).as_deref(), Ok(json), "{packed:?}");
        packed.len()
    }

    #[test]
    fn the_log_of_a_registration_takes_a_sixth() {
        let json = concat!(
            r#"[[1796074381043,{"event":"step_succeeded","step":"reserve_courses","leg":"action","attempt":1,"#,
            r#""started_at_ms":1796074381038,"output":"{\"added\":[{\"section\":\"C012-L1\",\"course\":\"C012\","#,
            r#"\"component\":\"\",\"credits_hundredths\":200,\"term\":\"2099-fall\"}]}"}],[1796074381046,{"event":"#,
            r#""step_succeeded","step":"hold_seats","leg":"action","attempt":1,"started_at_ms":1796074381043,"output":"#,
            r#""{}"}],[1796074381104,{"event":"finished"}]]"#
        );
        let packed = check(json, 1_796_074_381_043);
        assert!(packed * 6 < json.len(), "{packed} of {}", json.len());
    }

    #[test]
    fn every_text_is_read_as_it_was_packed() {
        let digits = ["0", "12", "1796074381043", "0796074381043", "17960743810430", "-1796074381043", "9999999999999"];
        for text in digits.into_iter().chain(["", "{", "[[", "ä𝄞", "\"\\u0001\"", "\u{7f}", "enrol", "enrollenroll"])
        {
            for time in [0, 1, -1, 1_796_074_381_043, i64::MAX, i64::MIN] {
                check(text, time);
                check(&format!("[{text},{text}]"), time);
            }
        }
        for word in WORDS {
            check(word, 0);
            check(&word[..word.len() - 1], 0);
            check(&format!("{word}1796074381043{word}"), 0);
        }
    }

    #[test]
    fn a_damaged_text_is_refused() {
        for text in
            ["\u{1}\u{1}", "\u{1}\u{1f}", "\u{1}\u{1f}ä", "\u{1}\u{1f}~", "\u{1}\u{1e}", "\u{1}\u{1e}@", "\u{1}\u{1e}~"]
        {
            assert!(unpack(text, 0).is_err(), "{text:?}");
        }
    }

    /// Stored logs depend on the indexes.
    #[test]
    fn words_keep_their_indexes() {
        assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), WORDS.len(), "each is there once");
        assert!(WORDS.len() - SHORT_WORDS <= usize::from(b'~' - b' ') + 1, "they have room");
        for word in WORDS {
            assert!(word.is_ascii() && !word.bytes().any(|byte| byte < FIRST_PRINTABLE), "{word}");
            let ends = [word.as_bytes()[0], word.as_bytes()[word.len() - 1]];
            assert!(!ends.iter().any(u8::is_ascii_digit), "{word}: a number would not be seen as a whole");
        }
        let sum = WORDS
            .iter()
            .flat_map(|word| word.bytes())
            .fold(0_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!((WORDS.len(), sum), (71, 16_051_326_891_969_224_443), "words are only added, at the end");
    }
}
