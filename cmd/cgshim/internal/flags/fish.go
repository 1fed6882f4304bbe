package flags

import "strings"

func (c *completion) fish() string {
	var others []string
	for _, command := range c.commands {
		others = append(others, command.name)
	}
	var b strings.Builder
	b.WriteString(strings.NewReplacer(
		"@VALUED@", selected(c.run, " ", valued), "@SUBCOMMANDS@", c.names, "@OTHERS@", strings.Join(others, " "),
	).Replace(fishScript))
	line := func(condition, what string) { b.WriteString("complete -c cgshim -n '" + condition + "'" + what + "\n") }
	for _, f := range c.run {
		line("not __cgshim_in_program", f.fish())
	}
	for _, command := range c.commands {
		condition := "__cgshim_in " + command.name
		if command.words != "" {
			line(condition, " -a '"+command.words+"'")
		}
		for _, f := range command.flags {
			line(condition, f.fish())
		}
	}
	return b.String()
}

// fish writes the flag as arguments of fish's complete.
func (f *flagHelp) fish() string {
	text := ""
	for _, name := range f.names {
		option := " -l "
		if !strings.HasPrefix(name, "--") {
			option = " -s "
		}
		text += option + strings.TrimLeft(name, "-")
	}
	if f.takesValue {
		text += fishAction(f.kind)
	}
	return text + " -d '" + f.usage + "'"
}

func fishAction(kind string) string {
	switch kind {
	case "":
		return " -x"
	case "file", "device":
		return " -r -F"
	case "dir":
		return " -x -a '(__fish_complete_directories)'"
	case "user":
		return " -x -a '(__fish_complete_users)'"
	}
	return " -x -a '" + words(kind) + "'"
}

const fishScript = `# fish completion for cgshim: cgshim completion fish | source
# The words from PROG on: the first that is neither a flag nor a flag's value.
function __cgshim_program
    set -l words (commandline -opc)
    set -e words[1]
    test "$words[1]" = run; and set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case '-*=*'
            case '-*'
                contains -- $words[1] @VALUED@; and set -e words[1]
            case '*'
                break
        end
        set -e words[1]
    end
    string escape -- $words
    set -q words[1]; or contains -- -- (commandline -opc)
end
function __cgshim_in_program
    __cgshim_program >/dev/null
end
function __cgshim_in
    contains -- (commandline -opc)[2] $argv
end
complete -c cgshim -f
complete -c cgshim -n __fish_is_first_token -a '@SUBCOMMANDS@'
complete -c cgshim -n '__cgshim_in_program; and not __cgshim_in @OTHERS@' -a '(complete -C (string join " " -- (__cgshim_program) (commandline -ct)))'
complete -c cgshim -n 'not __cgshim_in_program' -a '(__fish_complete_command)'
`
