//! Code on request, in the language that was asked for.

use super::Talk;

/// Language by the words that name it: fence tag, names, program.
const LANGUAGES: &[(&str, &[&str], &str)] = &[
    (
        "rust",
        &["rust"],
        "/// Returns the text backwards.\nfn reverse(text: &str) -> String {\n    text.chars().rev().collect()\n}\n\n\
         fn main() {\n    println!(\"{}\", reverse(\"héllo\"));\n}",
    ),
    (
        "typescript",
        &["typescript", "ts"],
        "export function reverse(text: string): string {\n  return [...text].reverse().join(\"\");\n}\n\n\
         console.log(reverse(\"héllo\"));",
    ),
    (
        "javascript",
        &["javascript", "js", "node"],
        "export function reverse(text) {\n  return [...text].reverse().join(\"\");\n}\n\nconsole.log(reverse(\"héllo\"));",
    ),
    (
        "go",
        &["go", "golang"],
        "package main\n\nimport (\n\t\"fmt\"\n\t\"slices\"\n)\n\nfunc reverse(text string) string {\n\trunes := []rune(text)\n\t\
         slices.Reverse(runes)\n\treturn string(runes)\n}\n\nfunc main() { fmt.Println(reverse(\"héllo\")) }",
    ),
    (
        "java",
        &["java"],
        "class Main {\n    static String reverse(String text) {\n        return new StringBuilder(text).reverse().toString();\n    }\n\n    \
         public static void main(String[] args) {\n        System.out.println(reverse(\"héllo\"));\n    }\n}",
    ),
    (
        "sql",
        &["sql"],
        "SELECT name, count(*) AS visits\nFROM visits\nGROUP BY name\nORDER BY visits DESC\nLIMIT 10;",
    ),
    (
        "bash",
        &["bash", "shell", "sh"],
        "#!/usr/bin/env bash\nset -euo pipefail\n\nwhile IFS= read -r line; do\n  printf '%s\\n' \"$line\" | rev\ndone",
    ),
    (
        "c",
        &["c"],
        "#include <stdio.h>\n#include <string.h>\n\nint main(void) {\n    char text[] = \"hello\";\n    \
         for (size_t i = strlen(text); i-- > 0;) putchar(text[i]);\n    putchar('\\n');\n}",
    ),
    (
        "html",
        &["html"],
        "<!doctype html>\n<html lang=\"en\">\n  <title>Hello</title>\n  <h1>Hello, wörld!</h1>\n</html>",
    ),
    (
        "python",
        &["python", "py"],
        "def reverse(text: str) -> str:\n    \"\"\"Returns the text backwards.\"\"\"\n    return text[::-1]\n\n\n\
         if __name__ == \"__main__\":\n    print(reverse(\"héllo\"))",
    ),
];

/// Answers when code is asked for; Python when no language is named.
pub(super) fn answer(talk: &Talk<'_>) -> Option<String> {
    let verbs = talk.says(&[
        "write",
        "show",
        "give",
        "implement",
        "make",
        "create",
        "generate",
        "need",
        "code",
    ]);
    let things = talk.says(&[
        "code",
        "function",
        "program",
        "script",
        "snippet",
        "implement",
        "class",
        "query",
        "example",
    ]);
    let named = LANGUAGES.iter().find(|(_, names, _)| talk.says(names));
    let other_form = talk.says(&["tips", "list", "table", "poem", "story", "reasons", "words"]);
    if other_form || !verbs || !(things || named.is_some_and(|(tag, _, _)| *tag != "go" && *tag != "c")) {
        return None;
    }
    if named.is_none() && !talk.says(&["code", "function", "program", "script", "snippet"]) {
        return None;
    }
    let (tag, _, program) = named.or(LANGUAGES.last())?;
    let lead = talk.pick(&["Here is a small version", "This does it", "A compact solution"], 10);
    Some(format!(
        "{lead} in **{tag}** for *{}*:\n\n```{tag}\n{program}\n```\n\nIt works on characters, so accents such as é survive. \
         Ask me for tests or another language.",
        talk.topic()
    ))
}
