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

// fileOf returns the file that is read, if it is one.
func fileOf(in io.Reader) (*os.File, bool) {
	if standard, is := in.(standardInput); is {
		return standard.file, true
	}
	f, is := in.(*os.File)
	return f, is
}

// typedLine returns the line that the user types at the terminal.
func typedLine(s *session) (string, error) {
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(s.in).ReadString('\n') // without an answer it is empty
		line <- text
	}()
	select {
	case text := <-line:
		return strings.TrimSpace(text), nil
	case <-s.ctx.Done(): // the reading ends with the program
		fmt.Fprintln(s.err)
		return "", fault("ask.interrupted_nothing_was_done")
	}
}

// agreed asks the user at the terminal whether to go on: nil is yes. Without a terminal there is no question, and it says how to
// agree beforehand.
func agreed(s *session, kind, fallback string) error {
	return asked(s, kind, fallback, said("ask.go_on_y_n", plain(kind)), "y", "Y", "yes", "Yes", "YES")
}

// agreedByName is agreed where the name of the context has to be typed.
func agreedByName(s *session, kind, name, fallback string) error {
	return asked(s, kind, fallback, said("ask.type_the_name", plain(kind), name), name)
}

// asked says nil where kind is typed is one of the answers that agree.
func asked(s *session, kind, fallback, question string, agree ...string) error {
	if !atTerminal(s) {
		return misused("ask.nothing_was_done", plain(kind), fallback)
	}
	fmt.Fprint(s.err, question)
	word, err := typedLine(s)
	if err != nil {
		return err
	}
	if slices.Contains(agree, word) {
		return nil
	}
	return fault("ask.not_agreed_nothing_was_done")
}
