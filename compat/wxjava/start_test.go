package wxjava_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// The lines that the server's first page shows for this library make a service; the program asks it for a token.
func TestStartPage_LibrarySnippet(t *testing.T) {
	classpath := classpath(t)
	harness.PlayStartLines(t, "wxjava", "/cgi-bin/token", func(lines string) *exec.Cmd {
		file := filepath.Join(t.TempDir(), "Lines.java")
		program := `import cn.binarywang.wx.miniapp.api.WxMaService;
import cn.binarywang.wx.miniapp.api.impl.WxMaServiceImpl;
import cn.binarywang.wx.miniapp.config.impl.WxMaDefaultConfigImpl;

public class Lines {
	public static void main(String[] none) throws Exception {
		` + lines + `
		if (service.getAccessToken().isEmpty()) {
			throw new Exception("no token");
		}
	}
}
`
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command("java", "-cp", classpath, file)
	})
}
