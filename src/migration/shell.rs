//! The assignments in a configuration that a shell reads: dracut's, mkinitcpio's, initramfs-tools'.
//!
//! In: the text. Out: its statements, each with its line. `name=value`, `name+=value` and `name=(list)` are read, with quotes,
//! comments and line continuations. Whatever only a shell could tell (expansions, commands, conditions) is reported as such:
//! nothing is run and nothing is guessed.

/// A statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    /// The number of its first line.
    pub line: usize,
    /// Its first line as written, without blanks around it.
    pub text: String,
    /// What it does.
    pub kind: Kind,
}

/// What a statement does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Sets a variable.
    Assignment {
        /// The variable.
        name: String,
        /// Whether the value is added to what the variable has.
        appends: bool,
        /// The value.
        value: Value,
    },
    /// Anything else.
    Other(&'static str),
}

/// The value of an assignment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// An array.
    List(Vec<String>),
    /// What only a shell can tell, with the reason.
    Unknown(&'static str),
}

impl Value {
    /// Its words, if it can be told.
    pub fn words(&self) -> Option<Vec<String>> {
        match self {
            Value::Text(text) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
            Value::List(words) => Some(words.clone()),
            Value::Unknown(_) => None,
        }
    }

    /// All of it in a line, if it can be told.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::List(words) => Some(words.join(" ")),
            Value::Unknown(_) => None,
        }
    }
}

const EXPANSION: &str = "only a shell can tell the value: it has an expansion";
const CONDITION: &str = "it is part of a condition, a loop or a function";
const COMMAND: &str = "it is a command";
const UNFINISHED: &str = "its quotes or brackets are not closed";

/// Words that begin and end a compound command.
const BEGINS: [&str; 5] = ["if", "for", "while", "until", "case"];
const ENDS: [&str; 3] = ["fi", "done", "esac"];

/// What a line ends with that goes on in the next.
const CONTINUED: [&str; 4] = ["\\", "&&", "||", "|"];

/// Reads the statements of a text.
pub fn statements(text: &str) -> Vec<Statement> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut statements = Vec::new();
    loop {
        reader.skip_to_statement();
        if reader.rest.is_empty() {
            return statements;
        }
        let (line, text) = (reader.line, reader.rest.lines().next().unwrap_or_default().trim().to_owned());
        if begins_compound(&text) {
            reader.skip_compound(0);
            statements.push(Statement { line, text, kind: Kind::Other(CONDITION) });
            continue;
        }
        let before = reader;
        match reader.assignments() {
            Ok(kinds) => statements.extend(kinds.into_iter().map(|kind| Statement { line, text: text.clone(), kind })),
            Err(reason) => {
                reader = before;
                reader.skip_command();
                statements.push(Statement { line, text, kind: Kind::Other(reason) });
            }
        }
    }
}

fn first_word(line: &str) -> &str {
    line.split([' ', '\t', ';', '(']).next().unwrap_or_default()
}

fn begins_compound(line: &str) -> bool {
    BEGINS.contains(&first_word(line))
        || line.starts_with("function ")
        || begins_function(line)
        || line.starts_with('{')
}

/// `name() {`
fn begins_function(line: &str) -> bool {
    let Some((name, rest)) = line.split_once('(') else { return false };
    is_name(name.trim_end()) && rest.trim_start().starts_with(')')
}

fn is_name(text: &str) -> bool {
    let is_letter = |character: char| character.is_ascii_alphabetic() || character == '_';
    text.starts_with(is_letter) && text.chars().all(|character| is_letter(character) || character.is_ascii_digit())
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.rest = &self.rest[character.len_utf8()..];
        self.line += usize::from(character == '\n');
        Some(character)
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|character| character != '\n') {}
    }

    /// Passes blanks, ends of lines and comments.
    fn skip_to_statement(&mut self) {
        while let Some(character) = self.peek() {
            match character {
                '#' => self.skip_line(),
                character if character.is_whitespace() || character == ';' => _ = self.next(),
                _ => return,
            }
        }
    }

    /// Passes a command with the lines that belong to it: what it decides on is not decided without it.
    fn skip_command(&mut self) {
        loop {
            let line = self.rest.lines().next().unwrap_or_default().trim_end();
            self.skip_line();
            if line.ends_with('{') {
                return self.skip_compound(1);
            }
            if self.rest.is_empty() || !CONTINUED.iter().any(|end| line.ends_with(end)) {
                return;
            }
        }
    }

    /// Passes a compound command, by the words that its lines begin with; `depth` is how many are open already.
    fn skip_compound(&mut self, mut depth: usize) {
        loop {
            let line = self.rest.lines().next().unwrap_or_default().trim();
            for part in line.split(';').map(str::trim) {
                let part =
                    ["then ", "do ", "else "].iter().find_map(|word| part.strip_prefix(word)).unwrap_or(part).trim();
                depth += usize::from(begins_compound(part));
                depth = depth.saturating_sub(usize::from(ENDS.contains(&first_word(part)) || part.starts_with('}')));
            }
            self.skip_line();
            if depth == 0 || self.rest.is_empty() {
                return;
            }
        }
    }

    /// The assignments of one line.
    fn assignments(&mut self) -> Result<Vec<Kind>, &'static str> {
        let mut kinds = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some('\n' | ';' | '#') => return Ok(kinds),
                Some(_) => kinds.extend(self.assignment()?),
            }
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => _ = self.next(),
                Some('\\') if self.rest.starts_with("\\\n") => _ = (self.next(), self.next()),
                _ => return,
            }
        }
    }

    /// One assignment; nothing where it is the word `export`.
    fn assignment(&mut self) -> Result<Option<Kind>, &'static str> {
        let end = self.rest.find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        let (name, after) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if ["export", "declare", "readonly"].contains(&name) && after.starts_with([' ', '\t']) {
            self.rest = after;
            return Ok(None);
        }
        let (appends, after) = match (after.strip_prefix("+="), after.strip_prefix('=')) {
            (Some(after), _) => (true, after),
            (None, Some(after)) => (false, after),
            (None, None) => return Err(COMMAND),
        };
        if !is_name(name) {
            return Err(COMMAND);
        }
        let name = name.to_owned();
        self.rest = after;
        let value = if after.starts_with('(') { self.list()? } else { self.value()? };
        Ok(Some(Kind::Assignment { name, appends, value }))
    }

    fn list(&mut self) -> Result<Value, &'static str> {
        self.next();
        let mut words = Vec::new();
        let mut unknown = None;
        loop {
            self.skip_to_statement();
            match self.peek() {
                None => return Err(UNFINISHED),
                Some(')') => {
                    self.next();
                    return Ok(unknown.map_or(Value::List(words), Value::Unknown));
                }
                Some(_) => match self.value()? {
                    Value::Text(word) => words.push(word),
                    Value::Unknown(reason) => unknown = Some(reason),
                    Value::List(_) => {}
                },
            }
        }
    }

    /// One word, with its quotes.
    fn value(&mut self) -> Result<Value, &'static str> {
        let mut text = String::new();
        let mut is_known = true;
        while let Some(character) = self.peek() {
            match character {
                '\n' | ' ' | '\t' | '\r' | ';' | ')' => break,
                '\'' => self.single_quoted(&mut text)?,
                '"' => is_known &= self.double_quoted(&mut text)?,
                '\\' => {
                    self.next();
                    text.extend(self.next().filter(|character| *character != '\n'));
                }
                '$' | '`' => {
                    is_known = false;
                    self.expansion()?;
                }
                '&' | '|' | '<' | '>' | '(' => return Err(COMMAND),
                _ => text.extend(self.next()),
            }
        }
        Ok(if is_known { Value::Text(text) } else { Value::Unknown(EXPANSION) })
    }

    fn single_quoted(&mut self, text: &mut String) -> Result<(), &'static str> {
        self.next();
        loop {
            match self.next() {
                None => return Err(UNFINISHED),
                Some('\'') => return Ok(()),
                Some(character) => text.push(character),
            }
        }
    }

    /// Returns whether it is all there is to it.
    fn double_quoted(&mut self, text: &mut String) -> Result<bool, &'static str> {
        self.next();
        let mut is_known = true;
        loop {
            match self.peek() {
                None => return Err(UNFINISHED),
                Some('"') => {
                    self.next();
                    return Ok(is_known);
                }
                Some('\\') => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(character @ ('"' | '\\' | '$' | '`')) => text.push(character),
                        Some(character) => text.extend(['\\', character]),
                    }
                }
                Some('$' | '`') => {
                    is_known = false;
                    self.expansion()?;
                }
                Some(_) => text.extend(self.next()),
            }
        }
    }

    /// Passes `$name`, `${...}`, `$(...)` or what is between backquotes.
    fn expansion(&mut self) -> Result<(), &'static str> {
        let (open, close) = match (self.next(), self.peek()) {
            (Some('`'), _) => (None, '`'),
            (_, Some('(')) => (Some('('), ')'),
            (_, Some('{')) => (Some('{'), '}'),
            _ => return Ok(()),
        };
        let mut depth = usize::from(open.is_none());
        while let Some(character) = self.next() {
            // What is quoted closes nothing.
            if matches!(character, '\'' | '"') && open.is_some() {
                while self.next().is_some_and(|other| other != character) {}
                continue;
            }
            depth += usize::from(Some(character) == open);
            depth -= usize::from(character == close);
            if depth == 0 {
                return Ok(());
            }
        }
        Err(UNFINISHED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let kind = |statement: Statement| match statement.kind {
            Kind::Assignment { name, appends, value } => {
                let sign = if appends { "+=" } else { "=" };
                match value {
                    Value::Text(text) => format!("{}: {name}{sign}[{text}]", statement.line),
                    Value::List(words) => format!("{}: {name}{sign}({})", statement.line, words.join("|")),
                    Value::Unknown(_) => format!("{}: {name}{sign}?", statement.line),
                }
            }
            Kind::Other(reason) => format!("{}: {} -- {reason}", statement.line, statement.text),
        };
        statements(text).into_iter().map(kind).collect()
    }

    #[test]
    fn assignments_as_people_write_them() {
        // Lines of public configurations.
        let text = "# dracut\n\
            add_drivers+=\" nvme xhci_pci \"   # disks\n\
            omit_drivers+=' .*/fs/ocfs/.*  i2o_scsi'\n\
            hostonly=yes\n\
            compress=\"zstd\"; early_microcode='yes'\n\
            \tinstall_items+=\" /etc/crypttab \\\n   /etc/keys/root.key \"\n\
            add_dracutmodules+=\"plymouth\" add_drivers+=\"vfat\"\n\
            kernel_cmdline=\"root=UUID=1 rd.luks.options=discard,\\\"x\\\"\"\n\
            prefix=\"/\"\nexport tmpdir=/tmp/a\\ b\n\
            logfile=/var/log/dracut.log#1\n";
        assert_eq!(
            told(text),
            [
                "2: add_drivers+=[ nvme xhci_pci ]",
                "3: omit_drivers+=[ .*/fs/ocfs/.*  i2o_scsi]",
                "4: hostonly=[yes]",
                "5: compress=[zstd]",
                "5: early_microcode=[yes]",
                "6: install_items+=[ /etc/crypttab    /etc/keys/root.key ]",
                "8: add_dracutmodules+=[plymouth]",
                "8: add_drivers+=[vfat]",
                "9: kernel_cmdline=[root=UUID=1 rd.luks.options=discard,\"x\"]",
                "10: prefix=[/]",
                "11: tmpdir=[/tmp/a b]",
                "12: logfile=[/var/log/dracut.log#1]",
            ]
        );
    }

    #[test]
    fn arrays_go_over_lines() {
        let text = "MODULES=()\nHOOKS=(base systemd # early\n  autodetect 'a b'\n)\nFILES+=(/etc/a)\nBINARIES=\"/usr/bin/btrfs\"\n";
        assert_eq!(
            told(text),
            [
                "1: MODULES=()",
                "2: HOOKS=(base|systemd|autodetect|a b)",
                "5: FILES+=(/etc/a)",
                "6: BINARIES=[/usr/bin/btrfs]"
            ]
        );
    }

    #[test]
    fn what_only_a_shell_can_tell_is_not_guessed() {
        let text = "initrdname=\"initrd-$kernel\"\n\
            install_items+=\" $(ls /etc/a; echo \")\") \"\n\
            if [ -e /etc/x ]; then\n  add_drivers+=\" a \"\n  if true; then b=1; fi\nfi\n\
            [[ -e /x ]] && add_drivers+=\" b \"\n\
            for i in a b; do add_drivers+=\" $i \"; done\n\
            f() {\n  hostonly=no\n}\n\
            . /etc/other\n\
            LANG=C run\n\
            fw_dir+=`pwd`:/x\n\
            [[ -e /x ]] && \\\nadd_drivers+=\" c \"\n\
            test -e /y ||\nadd_drivers+=\" d \"\n\
            [ -e /z ] && {\n  add_drivers+=\" e \"\n  if true; then b=1; fi\n}\n\
            hostonly=\"no\n";
        let told = told(text);
        let expected = [
            "1: initrdname=?".to_owned(),
            "2: install_items+=?".to_owned(),
            format!("3: if [ -e /etc/x ]; then -- {CONDITION}"),
            format!("7: [[ -e /x ]] && add_drivers+=\" b \" -- {COMMAND}"),
            format!("8: for i in a b; do add_drivers+=\" $i \"; done -- {CONDITION}"),
            format!("9: f() {{ -- {CONDITION}"),
            format!("12: . /etc/other -- {COMMAND}"),
            format!("13: LANG=C run -- {COMMAND}"),
            "14: fw_dir+=?".to_owned(),
            format!("15: [[ -e /x ]] && \\ -- {COMMAND}"),
            format!("17: test -e /y || -- {COMMAND}"),
            format!("19: [ -e /z ] && {{ -- {COMMAND}"),
            format!("23: hostonly=\"no -- {UNFINISHED}"),
        ];
        assert_eq!(told, expected);
    }

    proptest::proptest! {
        #[test]
        fn each_text_has_statements_on_its_lines(text in "([a-c]|if|fi|done|[ \\t\\n=+\"'\\\\$`(){};#&|é])*") {
            let lines = text.lines().count();
            for statement in statements(&text) {
                assert!((1..=lines).contains(&statement.line), "{statement:?}");
            }
        }
    }

    #[test]
    fn any_text_comes_to_an_end() {
        for text in
            ["", "\\", "a=\\", "a=(", "a=$(", "a=`", "=", "a=\"$", "if", "}", "a=b)c", "((", "ä=1", "a=${x", "a=;b"]
        {
            let _ = statements(text);
        }
        assert_eq!(told("a=b)c\n"), [format!("1: a=b)c -- {COMMAND}")]);
    }
}
