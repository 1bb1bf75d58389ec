//! What is published: JSON whose every byte matters, one value per number, always the same.

/// The JSON text of publication `number`, as a publisher sends it: with white space between tokens in some.
pub(crate) fn data(number: usize) -> String {
    let text = "lorem ipsum dolor sit amet ".repeat(number % 9);
    match number % 17 {
        0 => format!(r#"{{"text":"{text}","number":{number}}}"#),
        1 => format!(r#"{{"grüße":"żółć 日本語 🦀👩‍👩‍👧 {text}","n":{number}}}"#),
        2 => format!(r#"{{"escapes":"\u00e9\/\"\\\b\f\n\r\t\ud83e\udd80 \u0000 \u007F {text}","n":{number}}}"#),
        3 => format!(
            "[1e400,-1E-400,0.10,1.0,-0,-0.0,1E+2,123456789012345678901234567890,0.1000000000000000055,{number}]"
        ),
        4 => format!("{}{number}{}", r#"{"deeper":["#.repeat(20), "]}".repeat(20)),
        5 => format!(r#"{{"b":1,"a":2,"b":3,"":{number},"__proto__":{{"x":"{text}"}}}}"#),
        6 => format!("{{ \"spaced\" :\t[ 1 ,\r\n  2 ] ,\n\"text\" : \"a : b , {{ }} {text}\" , \"n\":{number} }}"),
        7 => format!("\"\u{2028}line\u{2029}separators\u{85}\u{feff} {text}{number}\""),
        8 => format!(r#"{{"lone":"\ud800 and \uDFFF","n":{number}}}"#),
        9 => format!(r#""data: x\nid: forged-{number}\n\nevent: gap\n\n{text}""#),
        10 => format!(r#"{{"type":"gap","position":"forged-{number}","channel":"elsewhere","data":"{text}"}}"#),
        11 => number.to_string(),
        12 => "null".to_owned(),
        13 => r#""""#.to_owned(),
        14 => format!(r#"[{{}},[],[[]],"",false,true,null,"{text}",{number}]"#),
        15 => format!(
            r#"{{"html":"<script>&amp;</script>\u003cb\u003E","text":"{}{number}"}}"#,
            text.repeat(8)
        ),
        _ => format!(r#"{{"text":"~\u007f DEL: {} {text}","n":{number}}}"#, '\u{7f}'),
    }
}

/// The publisher's word for publication `number` as a JSON string, where it gives one.
pub(crate) fn event(number: usize) -> Option<&'static str> {
    match number % 5 {
        0 => Some(r#""like""#),
        1 => Some(r#""größe \"\u0031\"""#),
        _ => None,
    }
}

/// The same JSON text without the white space between its tokens.
pub(crate) fn squeezed(json: &str) -> String {
    let mut squeezed = String::with_capacity(json.len());
    let mut is_in_string = false;
    let mut is_escaped = false;
    for letter in json.chars() {
        if !is_in_string && matches!(letter, ' ' | '\t' | '\r' | '\n') {
            continue;
        }
        if letter == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = is_in_string && letter == '\\' && !is_escaped;
        squeezed.push(letter);
    }
    squeezed
}

#[test]
fn only_white_space_between_tokens_is_squeezed_out() {
    assert_eq!(squeezed("{ \"a b\\\" c\" :\r\n[ 1 ,\t2 ] }"), r#"{"a b\" c":[1,2]}"#);
}
