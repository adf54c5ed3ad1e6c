module myapp

go 1.21
