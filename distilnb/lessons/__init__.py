"""The notebooks and their machinery: runner, views with controls, exercises, quizzes, slides and generated parts."""
