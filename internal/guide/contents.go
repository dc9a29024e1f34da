package guide

// contents are the sections with their pages in order. A name that ends in *
// stands for the rest of a folder.
var contents = []struct {
	titles [2]string
	names  []string
}{
	{[2]string{"Start", "开始"}, []string{"", "tour", "matching"}},
}
