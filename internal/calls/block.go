package calls

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Block is a row of the log: calls whose request ids are of one second.
type Block struct {
	Second int64  // in their request ids
	Calls  int    // how many
	Text   string // a JSON object and a newline for each, oldest first
	Gone   int    // so many of the oldest are forgotten
	Last   int64  // the number of the newest; 0 before it is written
}

// Single is a call of a version that kept each in a row of its own, as a block.
func Single(c Call, number int64) (Block, error) {
	text, err := json.Marshal(c)
	return Block{Second: ridSecond(c.RID), Calls: 1, Text: string(text) + "\n", Last: number}, err
}

// blockMost is how long the text of a block gets before another one begins, in bytes.
const blockMost = 256 << 10

// usual is what most calls take in a text, in bytes.
const usual = 768

// blocksOf puts calls into as few blocks as their request ids have seconds, and more
// where the texts are long.
func blocksOf(list []Call) []Block {
	var blocks []Block
	var texts []*strings.Builder
	var into []*json.Encoder // of each text; it ends each call with a newline, and writes none before
	open := map[int64]int{}  // where the block of a second is that has room
	for i := range list {
		second := ridSecond(list[i].RID)
		at, ok := open[second]
		if !ok || texts[at].Len() >= blockMost {
			at = len(blocks)
			open[second] = at
			text := &strings.Builder{}
			text.Grow(min(blockMost+8*usual, (len(list)-i)*usual))
			out := json.NewEncoder(text)
			out.SetEscapeHTML(false)
			blocks, texts, into = append(blocks, Block{Second: second}), append(texts, text), append(into, out)
		}
		if err := into[at].Encode(&list[i]); err != nil {
			panic(fmt.Errorf("a call of texts and numbers: %w", err))
		}
		blocks[at].Calls++
	}
	for i, text := range texts {
		blocks[i].Text = text.String()
	}
	return blocks
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
