"""How losses are computed: dense and packed lattices, in torch and Triton."""
