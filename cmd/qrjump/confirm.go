package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// atTerminal reports whether standard input is a terminal.
func atTerminal(s *session) bool {
	terminal, ok := fileOf(s.in)
	return ok && term.IsTerminal(int(terminal.Fd()))
}

// fileOf returns the file behind the input; the second result is false if the input is no file.
func fileOf(in io.Reader) (*os.File, bool) {
	if standard, is := in.(standardInput); is {
		return standard.file, true
	}
	f, is := in.(*os.File)
	return f, is
}

// readTerminalLine reads a line from the terminal.
func readTerminalLine(s *session) (string, error) {
	text, err := unlessEnded(s.ctx, func() (string, error) {
		text, _ := bufio.NewReader(s.in).ReadString('\n') // a read error is ignored, because an incomplete line confirms nothing
		return strings.TrimSpace(text), nil
	})
	if err != nil {
		fmt.Fprintln(s.err)
		return "", fault("ask.interrupted_nothing_was_done")
	}
	return text, nil
}

// confirmByName asks the user at the terminal to confirm by typing a name, such as the name of the context; nil = confirmed.
func confirmByName(s *session, kind, name, fallback string) error {
	return confirmed(s, kind, fallback, tr("ask.type_the_name", plain(kind), name), name)
}

// confirmed asks the question at the terminal, and returns nil if the user types one of the texts in agree. Without a terminal, confirmed
// does not ask, but returns an error with fallback, which names the flag for confirming in advance.
func confirmed(s *session, kind, fallback, question string, agree ...string) error {
	if !atTerminal(s) {
		return misused("ask.nothing_was_done", plain(kind), fallback)
	}
	fmt.Fprint(s.err, question)
	word, err := readTerminalLine(s)
	if err != nil {
		return err
	}
	if slices.Contains(agree, word) {
		return nil
	}
	return fault("ask.not_agreed_nothing_was_done")
}
