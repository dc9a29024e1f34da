package index

// Bytes returns the memory of the tables and texts of an index, in bytes.
func (x *Index) Bytes() int64 {
	c := x.state.Load()
	return c.hosts.bytes + c.texts.bytes + c.rules.bytes + c.textTable.bytes + c.ruleTable.bytes
}
