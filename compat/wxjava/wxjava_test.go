// Package wxjava_test tests qrjump with the Java library WxJava.
package wxjava_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// classpath returns the class path of the library.
func classpath(t *testing.T) string {
	t.Helper()
	jars, err := os.ReadFile("target/classpath")
	if err != nil {
		t.Skip("not run: WxJava: not installed here, see compat/run.sh")
	}
	return strings.TrimSpace(string(jars))
}

// Every call with the code for this library on the call's page.
func TestSnippets_EveryCallPage(t *testing.T) {
	jars := classpath(t)
	imports, list := harness.Snippets(t, "Java: WxJava")
	var program strings.Builder
	program.WriteString(imports + "\npublic class Calls {\n")
	for name, variable := range harness.Variables {
		program.WriteString("static final String " + name + " = System.getenv(\"" + variable + "\");\n")
	}
	for _, s := range list {
		program.WriteString("public static void " + s.Name() + "() throws Exception {\n" + s.Setup + s.Code + "}\n")
	}
	program.WriteString("public static void main(String[] args) throws Exception {\nCalls.class.getMethod(args[0]).invoke(null);\n}\n}\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Calls.java"), []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	classpath := dir + ":" + jars
	compile := exec.Command("javac", "-cp", classpath, "Calls.java")
	compile.Dir = dir
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, program.String())
	}
	trust := dir + "/trust.p12"
	harness.PlaySnippets(t,
		"keytool -importcert -noprompt -alias qrjump -file $CA -keystore "+trust+" -storepass changeit 2>keytool.log",
		"java -XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore="+trust+" -Djavax.net.ssl.trustStorePassword=changeit -cp "+
			classpath+" Calls",
		list)
}
