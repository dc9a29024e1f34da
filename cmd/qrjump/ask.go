package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// agreed asks whoever sits at the terminal whether to go on: nil is yes. Without
// a terminal nobody can be asked, and it says how to agree beforehand.
func agreed(s *session, what, otherwise string) error {
	terminal, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return misused("ask.nothing_was_done", plain(what), otherwise)
	}
	fmt.Fprint(s.err, said("ask.go_on_y_n", plain(what)))
	answered := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(terminal).ReadString('\n') // without an answer it is no
		answered <- line
	}()
	select {
	case line := <-answered:
		if word := strings.ToLower(strings.TrimSpace(line)); word == "y" || word == "yes" {
			return nil
		}
		return fault("ask.not_agreed_nothing_was_done")
	case <-s.ctx.Done(): // the reading ends with the program
		fmt.Fprintln(s.err)
		return fault("ask.interrupted_nothing_was_done")
	}
}
