require "minitest/autorun"
require "caesar"

class CaesarTest < Minitest::Test
  def test_back_and_forth
    assert_equal "khoor", Caesar.shift("hello", 3)
    assert_equal "hello", Caesar.shift("khoor", -3)
  end
end
