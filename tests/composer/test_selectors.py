from composer.selectors import compositions_of


def test_the_newest_composition_comes_first(alice, ask):
    asked = [ask(name=f"task {number}") for number in range(4)]
    assert list(compositions_of(alice)) == asked[::-1]
