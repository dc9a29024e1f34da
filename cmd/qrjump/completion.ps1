# PowerShell completion for qrjump: qrjump completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName qrjump -ScriptBlock {
    param($word, $ast, $cursor)
    $words = @($ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object { $_.ToString() })
    $program = $words[0]
    $words = @($words | Select-Object -Skip 1)
    # An empty word is lost on its way to a program in older shells; two quotes are not.
    $current = if ($word) { $word } elseif ($PSVersionTable.PSVersion -ge [version]'7.3') { '' } else { '""' }
    & $program __complete -- @words $current 2>$null | ForEach-Object {
        $name, $means = $_ -split "`t", 2
        if ($name -eq ':files' -or $name -eq ':folders') {
            [System.Management.Automation.CompletionCompleters]::CompleteFilename($word)
        } else {
            $shown = if ($means) { $means } else { $name }
            [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $shown)
        }
    }
}
