package signals

func handlerAction(handler uintptr) *sigaction {
	return &sigaction{handler: handler, flags: saSigInfo | saOnStack | saRestart}
}
