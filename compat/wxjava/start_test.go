package wxjava_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// The lines for this library on the server's first page create a service, from which the program gets a token.
func TestStartPage_LibrarySnippet(t *testing.T) {
	classpath := classpath(t)
	harness.PlayStartLines(t, "wxjava", "/cgi-bin/token", func(lines string) *exec.Cmd {
		file := filepath.Join(t.TempDir(), "Lines.java")
		program := `import cn.binarywang.wx.miniapp.api.WxMaService;
import cn.binarywang.wx.miniapp.api.impl.WxMaServiceImpl;
import cn.binarywang.wx.miniapp.config.impl.WxMaDefaultConfigImpl;

public class Lines {
	public static void main(String[] args) throws Exception {
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
