package apiusage

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Block is a row of the log: calls whose request ids are of one second.
type Block struct {
	Second int64  // in their request ids
	Calls  int    // how many
	Text   string // a JSON object and a newline for each, oldest first
	Gone   int    // so many of the oldest are forgotten
	Last   int64  // the number of the newest; 0 before it is written
}

// blockMost is the length in bytes at which the text of a block is complete and another one begins.
const blockMost = 256 << 10

// usual is the length in bytes of most calls in a text.
const usual = 768

// blocksOf puts calls into as few blocks as their request ids have seconds, and more
// where the texts are long.
func blocksOf(list []Call) []Block {
	var blocks []Block
	var texts [][]byte      // of each
	open := map[int64]int{} // where the block of a second is that has room
	for i := range list {
		second := ridSecond(list[i].RID)
		pos, ok := open[second]
		if !ok || len(texts[pos]) >= blockMost {
			pos = len(blocks)
			open[second] = pos
			blocks = append(blocks, Block{Second: second})
			texts = append(texts, make([]byte, 0, min(blockMost+8*usual, (len(list)-i)*usual)))
		}
		texts[pos] = append(list[i].appendJSON(texts[pos]), '\n')
		blocks[pos].Calls++
	}
	for i, text := range texts {
		blocks[i].Text = string(text)
	}
	return blocks
}

// appendJSON appends a call as encoding/json writes it, at a third of the cost: that was
// half of what the log took.
func (c *Call) appendJSON(b []byte) []byte {
	b = appendText(append(b, `{"rid":`...), c.RID)
	b = appendText(append(b, `,"account":`...), c.Account)
	b = c.OccurredAt.AppendFormat(append(b, `,"occurred_at":"`...), time.RFC3339Nano)
	b = strconv.AppendInt(append(b, `","took":`...), int64(c.Took), 10)
	b = appendText(append(b, `,"path":`...), c.Path)
	b = appendNamed(b, `,"query":`, c.Query)
	b = appendNamed(b, `,"request":`, c.Request)
	b = appendNamed(b, `,"response":`, c.Response)
	b = appendNamed(b, `,"ip":`, c.ClientIP)
	if c.ErrCode != 0 {
		b = strconv.AppendInt(append(b, `,"errcode":`...), int64(c.ErrCode), 10)
	}
	b = appendNamed(b, `,"detail":`, c.Detail)
	if len(c.Behaviours) > 0 {
		b = append(b, `,"behaviours":`...)
		for i, row := range c.Behaviours {
			b = appendText(append(b, "[,"[min(i, 1)]), row)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendNamed appends a text behind its name, or nothing where there is no text.
func appendNamed(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(append(b, name...), text)
}

// appendText appends a text of valid UTF-8 as JSON.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	return append(append(b, s[start:]...), '"')
}

// find returns the call with a request id, and false where the block has none that
// is not forgotten.
func (b Block) find(rid string) (c Call, ok bool, err error) {
	n := 0
	for line := range strings.Lines(b.Text) {
		if n++; n <= b.Gone || !strings.Contains(line, rid) {
			continue
		}
		var c Call
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return Call{}, false, fmt.Errorf("reading the log of calls: %w", err)
		}
		if c.RID == rid { // else it is a call that asks for that one
			return c, true, nil
		}
	}
	return Call{}, false, nil
}
